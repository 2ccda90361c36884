Feature: Monitoring
  One server watches the members of the pool, whoever they are

  Scenario: Prometheus sees every member
    Given the stack
    Then there is exactly one instance beside the pool's members
    And Prometheus answers from outside within 300 s
    And every member is up in Prometheus within 300 s
    And the CPU query has one line for each member within 300 s

  Scenario: Prometheus sees the replacements of all members
    Given the stack
    When all members are deleted through the API, and the pool has others within 300 s
    Then every new member is up in Prometheus within 300 s
    And the CPU query has one line for each new member within 300 s

  Scenario: Load is visible
    Given the stack
    Then repeated GET /load raises the CPU visibly within 120 s

  Scenario: Service discovery runs with the contract's environment alone
    Given the stack
    Then run with the contract's environment, service discovery writes all members to a file within 120 s
    When all members are deleted through the API, and the pool has others within 300 s
    Then its file shows the change within 120 s
    And service discovery exits with 0 on TERM within 10 s
