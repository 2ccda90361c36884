Feature: Pool and load balancer
  A pool of servers stands behind one load balancer, and repairs itself

  Scenario: The stack has one pool behind one balancer
    Given the stack
    Then there is exactly one instance pool
    And there is exactly one load balancer, with exactly one service, on port 80
    And all backends are healthy within 300 s
    And the service answers 200 and exactly "OK" to /health

  Scenario: All members are deleted
    Given the stack
    When all members are deleted through the API, and the pool has others within 300 s
    Then all backends are healthy again within 300 s
    And the service answers 200 and exactly "OK" to /health again
