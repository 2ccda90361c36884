Feature: Autoscaling
  The pool follows the load, one step at a time

  Scenario: The autoscaler runs with the contract's environment alone
    Given a pool of 1
    And the autoscaler, started with the contract's environment
    When GET /up is sent once
    Then the answer is 200
    And the pool has 2 members within 120 s
    When GET /down is sent once
    Then the answer is 200
    And the pool has 1 member within 900 s
    When 6 s have passed, so that it is no repeat
    And GET /down is sent once
    Then the answer is 200
    And the autoscaler ignores it and the pool keeps 1 member
    When it gets TERM
    Then it exits with 0 within 30 s

  Scenario: Ten parallel loops make the pool grow, and calm makes it shrink
    Given the stack
    When ten loops request /load in parallel
    Then the pool has 2 members within 300 s
    And the pool has 3 members within 300 s
    When the loops end
    Then the pool has 1 member within 300 s
    And no request of the loops was lost
