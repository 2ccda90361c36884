Feature: Autoscaling
  The pool follows the load, one step at a time

  Scenario: Grafana watches the pool's average and calls the autoscaler
    Given the stack
    Then Grafana answers from outside within 300 s
    And its data source is Prometheus within 60 s
    And a dashboard has two graphs of the pool's average CPU within 60 s
    And one alert fires above 80 %, one below 20 %, each after 1 minute
    And they call /up and /down, again after 5 minutes, and not when they resolve

  Scenario: Ten parallel loops make the pool grow, and calm makes it shrink
    Given the stack
    Then under ten parallel loops of GET /load the pool grows by one member within 300 s
    And it grows on while the load lasts within 480 s
    And the loops end, and no request of theirs was lost
    And without load the pool comes back to its size within 900 s

  Scenario: The autoscaler runs with the contract's environment alone
    Given the stack
    Then run with the contract's environment, the autoscaler answers 200 to one GET /up, and its pool has 2 members within 300 s
    And it answers 200 to one GET /down, and its pool has 1 member within 900 s
    And it answers 200 to GET /down at size 1, and ignores it
    And the autoscaler exits with 0 on TERM within 30 s
