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
    When all members of the pool are deleted through the API
    Then the pool has other members within 300 s
    And every member is up in Prometheus within 300 s
    And the CPU query has one line for each member within 300 s

  Scenario: Load is visible
    Given the stack
    When /load is requested again and again
    Then the CPU query shows a member above 0.8 within 120 s

  Scenario: Service discovery runs with the contract's environment alone
    Given a pool of 1
    And the service discovery, started with the contract's environment
    Then its file has as many targets as the pool has members within 120 s
    When the pool is scaled to 2
    Then its file has as many targets as the pool has members within 120 s
    When it gets TERM
    Then it exits with 0 within 1 s
