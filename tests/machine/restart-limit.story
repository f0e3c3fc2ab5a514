Attempts within a window, then failed. An operator's start is a fresh one.

--- web
[service]
exec = ["/bin/web"]
[restart]
delay = "0"
attempts = 2
window = "10s"
jitter = "0%"

--- story
> start web
  web waiting
  spawn web@1
  web starting
> cannot-start web
  web stopping: could not start: bind /x on /y: ENOENT
> emptied web
  release web@1
  web backoff: could not start: bind /x on /y: ENOENT
> wait 10ms
  at 10ms
  web waiting
  spawn web@2
  web starting
> cannot-start web
  web stopping: could not start: bind /x on /y: ENOENT
> emptied web
  release web@2
  web backoff: could not start: bind /x on /y: ENOENT
> wait 10ms
  at 20ms
  web waiting
  spawn web@3
  web starting
> cannot-start web
  web stopping: could not start: bind /x on /y: ENOENT
> emptied web
  release web@3
  web failed: restarted 2 times within 10s, which is its limit; the last time: could not start: bind /x on /y: ENOENT
> wait 100s
> start web
  web waiting
  spawn web@4
  web starting
