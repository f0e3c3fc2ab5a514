use cellinit::cell::{self, Wiring};
use cellinit::plan::*;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

fn bind(source: &str, target: &str, devices: bool) -> Step {
    Step::Bind { source: source.into(), target: target.into(), writable: false, exec: false, devices, recursive: true, idmap: false, create: false }
}
fn tmp(target: &str, mode: u32) -> Step {
    Step::MountTmpfs { target: target.into(), size: 1 << 20, mode, uid: 524288, gid: 524288, exec: false }
}

#[test]
fn spike() {
    let run = Path::new("/run/spike-cell");
    cell::templates::ensure(run).unwrap();
    cell::templates::ensure(run).unwrap();
    let map = IdMap { base: 524288, size: 65536 };
    let script = std::env::var("SPIKE").unwrap_or("id; cat /proc/self/mountinfo; ls -la / /dev /sys /proc/self/fd; grep -E 'Cap|Sec|NoNew' /proc/self/status; hostname; ip a; touch /usr/x; ls /home; mknod /tmp/x c 1 3; mount -t tmpfs x /tmp; unshare -U id; ps; cat /proc/self/uid_map; pwd; env; cat /proc/kcore | wc -c; echo hi > /dev/null; readlink /proc/self/ns/*".into());
    let mut steps = vec![
        Step::ShieldSetup, Step::NewSession, Step::SetOomScore(100),
        Step::SetRlimit { resource: 4, name: "core", soft: 0, hard: 0 },
        Step::MakeMountsPrivate,
        Step::CloneRoot { source: "/".into(), writable: false },
        Step::MountProc, bind("/run/spike-cell/template/dev", "/dev", true), Step::MountDevpts, tmp("/dev/shm", 0o1777),
        bind("/run/spike-cell/template/sys", "/sys", false), tmp("/tmp", 0o1777), tmp("/run", 0o755), tmp("/home", 0o755), tmp("/root", 0o755),
        Step::Mask { path: "/proc/kcore".into() }, Step::Mask { path: "/proc/acpi".into() }, Step::Mask { path: "/proc/scsi".into() }, Step::ReadOnly { path: "/proc/sys".into() },
        Step::PivotRoot,
        Step::EnterUserNamespace,
        Step::Unshare(Namespaces { uts: true, ipc: true, net: true, ..Default::default() }),
        Step::LoopbackUp, Step::SetHostname("web".into()), Step::SetUmask(0o22), Step::ChangeDirectory("/".into()),
        Step::SetIds { uid: 61184, gid: 61184, groups: vec![] },
        Step::LimitCapabilities { keep: vec![], names: vec![], last: 40 },
        Step::NoNewPrivileges, Step::PlaceDescriptors, Step::ResetSignals,
        Step::Execute { path: "sh".into(), argv: vec!["sh".into(), "-c".into(), script], environment: vec![("PATH".into(), "/usr/bin:/bin:/sbin".into())], search: vec!["/nope".into(), "/bin".into()] },
    ];
    if std::env::var("SPIKE_TRUE").is_ok() {
        steps.pop();
        steps.push(Step::Execute { path: "/bin/busybox".into(), argv: vec!["true".into()], environment: vec![], search: vec![] });
    }
    let plan = Plan { unit: "web".into(), before: vec![], cgroup: CgroupPlan { path: "x/web".into(), v2: None, v1: vec![], limits: Default::default(), oom_group: false },
        user_namespace: Some(map), born: Namespaces { mount: true, pid: true, cgroup: true, ..Default::default() }, steps, left_out: vec![] };
    let prepared = cell::prepare(&plan).unwrap();
    let userns = cell::user_namespace(map).unwrap();
    let null = File::open("/dev/null").unwrap();
    let n = if std::env::var("SPIKE_TRUE").is_ok() { 500 } else { 1 };
    let t = std::time::Instant::now();
    for _ in 0..n {
        let (r, w): (OwnedFd, OwnedFd) = nix::unistd::pipe().unwrap();
        let s = prepared.spawn(&Wiring { stdin: null.as_fd(), stdout: w.as_fd(), stderr: w.as_fd(), listen: vec![("a".into(), null.as_fd())], environment: vec![], cgroup: None, user_namespace: Some(userns.as_fd()), join: None, wait_for_go: false }).unwrap();
        drop(w);
        let mut out = String::new();
        File::from(r).read_to_string(&mut out).unwrap();
        let mut report = vec![];
        let end = cellinit::sys::process::waitid(s.pidfd.as_fd()).unwrap();
        let _ = File::from(s.report).read_to_end(&mut report);
        if !out.is_empty() || !report.is_empty() {
            println!("{out}\n{end:?} {report:?}");
            if let Ok(b) = <[u8; 8]>::try_from(report) { let r = Report::from_bytes(b); println!("{:?} {} {:?}", r, cellinit::sys::describe(r.errno), plan.steps.get(r.step as usize)); }
        }
    }
    println!("{:?} each", t.elapsed() / n);
    cell::templates::remove(run).unwrap();
}
