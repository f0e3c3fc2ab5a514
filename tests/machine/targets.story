A target is up when what it pulls in has made up its mind; what it wants may fail.

--- db
[service]
exec = ["/bin/db"]
type = "notify"

--- flaky
[service]
exec = ["/bin/flaky"]
[restart]
policy = "no"

--- system
[unit]
kind = "target"
requires = ["db"]
wants = ["flaky"]

--- story
> start system
  system waiting
  db waiting
  flaky waiting
  spawn db@1
  db starting
  spawn flaky@1
  flaky starting
> cannot-start flaky
  flaky stopping: could not start: bind /x on /y: ENOENT
> emptied flaky
  release flaky@1
  flaky failed: could not start: bind /x on /y: ENOENT
> executed db
> why system
  system waits for other units (waiting); db is not settled
    db waits until it says that it is ready (starting), until 90s
> ready db
  db running
  system running
> stop db
  db stopping: asked to stop
  system stopping: stopped with db, which it requires
  system stopped: stopped with db, which it requires
  signal 15 to db (main)
> exits db 0
  kill db
> emptied db
  release db@1
  db stopped: asked to stop
