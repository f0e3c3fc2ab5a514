A job that fails is retried by its policy, and those who wait for it wait.

--- migrate
[unit]
kind = "job"
[service]
exec = ["/bin/migrate"]
[restart]
policy = "on-failure"
attempts = 1
jitter = "0%"

--- web
[unit]
depends = [{ unit = "migrate", condition = "completed" }]
[service]
exec = ["/bin/web"]

--- story
> start web
  web waiting
  migrate waiting
  spawn migrate@1
  migrate starting
> executed migrate
> exits migrate 2
  migrate stopping: exit status 2
  kill migrate
> emptied migrate
  release migrate@1
  migrate backoff: exit status 2
> wait 1s
  at 100ms
  migrate waiting
  spawn migrate@2
  migrate starting
> executed migrate
> exits migrate 2
  migrate stopping: exit status 2
  kill migrate
> emptied migrate
  release migrate@2
  migrate failed: restarted once within 10s, which is its limit; the last time: exit status 2
  web failed: migrate failed
