`degrade` only shows; `stop` stops for good.

--- shown
[service]
exec = ["/bin/shown"]
[health.live]
tcp = "127.0.0.1:1"
interval = "1s"
failures = 1
action = "degrade"

--- ended
[service]
exec = ["/bin/ended"]
[health.live]
tcp = "127.0.0.1:1"
interval = "1s"
failures = 1
action = "stop"

--- story
> start shown
  shown waiting
  spawn shown@1
  shown starting
> executed shown
  shown running
> wait 0s
  at 0ns
  probe shown live
> probe shown live passes
  shown healthy
> wait 1s
  at 1s
  probe shown live
> probe shown live fails
  shown degraded: health.live failed: refused
> wait 1s
  at 2s
  probe shown live
> probe shown live passes
  shown healthy
> stop shown
  shown stopping: asked to stop
  signal 15 to shown (main)
> exits shown 0
  kill shown
> emptied shown
  release shown@1
  shown stopped: asked to stop
> start ended
  ended waiting
  spawn ended@1
  ended starting
> executed ended
  ended running
> wait 0s
  at 2s
  probe ended live
> probe ended live passes
  ended healthy
> wait 1s
  at 3s
  probe ended live
> probe ended live fails
  ended unhealthy: health.live failed: refused
  ended stopping: health.live failed: refused
  signal 15 to ended (main)
> exits ended 0
  kill ended
> emptied ended
  release ended@1
  ended failed: health.live failed: refused
