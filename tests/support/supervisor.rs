//! A supervisor for tests: unit files go in, a real `cellinit` runs them as root on this host, and is asked over its socket.
//! When it ends, everything that it made must be gone.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest wait for anything; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Supervisor {
    directory: TempDir,
    child: Child,
}

impl Supervisor {
    /// Starts `cellinit` with these units: names and texts. `@DIR@` in a text is a directory for the test's own files.
    pub fn start(units: &[(&str, &str)]) -> Supervisor {
        assert!(nix::unistd::geteuid().is_root(), "cells are made by root: run these tests as root");
        let directory = tempfile::tempdir_in("/run").unwrap();
        let files = directory.path().join("files");
        fs::create_dir_all(&files).unwrap();
        let folder = directory.path().join("units");
        fs::create_dir(&folder).unwrap();
        for (name, text) in units {
            fs::write(folder.join(format!("{name}.toml")), text.replace("@DIR@", files.to_str().unwrap())).unwrap();
        }
        let child = Self::spawn(directory.path());
        let supervisor = Supervisor { directory, child };
        supervisor.wait_for_socket();
        supervisor
    }

    /// SIGKILL, which leaves everything as it is, and another supervisor in its place.
    pub fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(self.directory.path());
        self.wait_for_socket();
    }

    fn spawn(directory: &Path) -> Child {
        let console = fs::File::create(directory.join("console")).unwrap();
        Self::command(directory).stdin(Stdio::null()).stderr(console).spawn().unwrap()
    }

    fn wait_for_socket(&self) {
        let socket = self.run_dir().join("control.sock");
        self.until("the control socket", || UnixStream::connect(&socket).is_ok());
    }

    /// Another unit, for the next start.
    pub fn add(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(format!("units/{name}.toml")), text).unwrap();
    }

    fn command(directory: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cellinit"));
        command.arg("--units").arg(directory.join("units")).arg("--run-dir").arg(directory.join("run"));
        command
    }

    pub fn run_dir(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    pub fn files(&self) -> PathBuf {
        self.directory.path().join("files")
    }

    /// What a second supervisor for the same run directory has to say.
    pub fn second(&self) -> std::process::Output {
        Self::command(self.directory.path()).output().unwrap()
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn call(&self, method: &str, parameters: Value) -> Value {
        let mut stream = UnixStream::connect(self.run_dir().join("control.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = json!({ "method": format!("org.cellinit.{method}"), "parameters": parameters });
        writeln!(stream, "{request}").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{method}: {error}: {line:?}"))
    }

    pub fn unit(&self, name: &str) -> Value {
        self.call("Status", json!({ "unit": name }))["parameters"]["unit"].clone()
    }

    /// Waits until the unit is like that.
    pub fn wait(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        self.until(&format!("{name} {what}"), || {
            last = self.unit(name);
            is(&last)
        });
        last
    }

    pub fn wait_state(&self, name: &str, state: &str) -> Value {
        self.wait(name, state, |unit| unit["state"] == state)
    }

    /// Its events so far.
    pub fn events(&self, name: &str) -> Vec<Value> {
        self.call("Events", json!({ "unit": name, "backlog": 256 }))["parameters"]["events"].as_array().unwrap().clone()
    }

    pub fn log(&self, unit: &str) -> String {
        fs::read_to_string(self.run_dir().join(format!("log/{unit}.log"))).unwrap_or_default()
    }

    pub fn console(&self) -> String {
        fs::read_to_string(self.directory.path().join("console")).unwrap_or_default()
    }

    pub fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is() {
            assert!(Instant::now() < deadline, "waited for {what} in vain\n{}", self.console());
            sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM, and the end in order: status 0, and no trace but logs and state.
    pub fn stop(mut self) {
        let slices = slices_of(self.pid(), &self.units_cgroups());
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).unwrap();
        let status = self.end();
        assert!(status.success(), "{status}\n{}", self.console());
        for slice in slices {
            assert!(!slice.exists(), "{} is still there\n{}", slice.display(), self.console());
        }
        let run_dir = self.run_dir();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(run_dir.to_str().unwrap()), "{mounts}");
        let mut left: Vec<String> = fs::read_dir(&run_dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.retain(|name| !["log", "state", "cache"].contains(&name.as_str()));
        assert!(left.is_empty(), "{left:?} is left in the run directory");
    }

    fn units_cgroups(&self) -> Vec<PathBuf> {
        let list = self.call("List", json!({}))["parameters"]["units"].as_array().unwrap().clone();
        list.iter().filter_map(|unit| unit["cgroup"].as_str().map(PathBuf::from)).collect()
    }

    /// Waits for the end that was asked for.
    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "cellinit does not end\n{}", self.console());
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if std::thread::panicking() {
                eprintln!("{}", self.console());
            }
            kill(Pid::from_raw(self.pid()), Signal::SIGTERM).ok();
            for _ in 0..200 {
                if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                    return;
                }
                sleep(Duration::from_millis(50));
            }
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// The supervisor's node in every hierarchy of this host.
fn slices_of(_pid: i32, cgroups: &[PathBuf]) -> Vec<PathBuf> {
    let Some(name) = cgroups.iter().find_map(|path| path.parent()?.file_name()) else { return Vec::new() };
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let points = mounts.lines().filter(|line| line.starts_with("cgroup")).filter_map(|line| line.split(' ').nth(1));
    points.map(|point| Path::new(point).join(name)).collect()
}

pub fn is_alive(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}
