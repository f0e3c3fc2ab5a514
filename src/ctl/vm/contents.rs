//! What goes into an image: the programs of cellinit, the units, and everything of this host that the units name.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::programs::{self, Programs};
use super::tree::{Tree, about};
use crate::unit::{self, Check, Identity, MountKind, Payload, Profile, Unit, UnitSet};

/// Where PID 1 looks for its units.
pub const UNITS: &str = "/etc/cellinit/units";
/// Where it looks for machine code that was compiled before.
const COMPILED: &str = "/var/cache/cellinit/aot";
/// Where the programs of cellinit are, inside.
const PROGRAMS: &str = "/usr/bin";
/// These reach PID 1's `cell` under names that hands know.
const POWER_NAMES: &[&str] = &["poweroff", "reboot", "halt"];
/// Folders that are there from the start; the ones that PID 1 mounts over among them.
const FOLDERS: &[(&str, u32)] = &[
    ("/dev", 0o755),
    ("/etc", 0o755),
    ("/home", 0o755),
    ("/mnt", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/var/cache/cellinit", 0o700),
    ("/var/lib", 0o755),
    ("/var/log", 0o755),
    ("/var/tmp", 0o1777),
];
/// Made by the kernel or by PID 1 inside: nothing of this host's is taken from there.
const MADE_INSIDE: &[&str] = &["/dev", "/proc", "/run", "/sys", "/tmp"];

/// What the image is like, besides its files.
#[derive(Default)]
pub struct Gathered {
    /// What was left out and may be missed, in sentences.
    pub notes: Vec<String>,
    /// Folders of the image that cells may write to.
    pub writable: BTreeSet<String>,
}

/// Fills the tree.
pub fn gather(tree: &mut Tree, units: &UnitSet, additions: &[(PathBuf, PathBuf)]) -> io::Result<Gathered> {
    let mut gathering = Gathering { tree, programs: Programs::new(), users: BTreeSet::new(), gathered: Gathered::default() };
    gathering.folders()?;
    // What is asked for by name comes before what we would put there: the first to take a place keeps it.
    for (from, to) in additions {
        gathering.programs.add_as(gathering.tree, from, to)?;
    }
    gathering.system()?;
    for unit in units.iter().filter(|unit| unit.source.is_file()) {
        gathering.unit(unit).map_err(|error| io::Error::new(error.kind(), format!("unit {}: {error}", unit.name)))?;
    }
    gathering.accounts()?;
    Ok(gathering.gathered)
}

struct Gathering<'a> {
    tree: &'a mut Tree,
    programs: Programs,
    /// Users and groups that units call by name.
    users: BTreeSet<String>,
    gathered: Gathered,
}

impl Gathering<'_> {
    fn folders(&mut self) -> io::Result<()> {
        // Where this host has merged /usr, so has the image: the loader's path is compiled into every program.
        for folder in ["/bin", "/lib", "/lib64", "/sbin"].map(Path::new).iter().filter(|folder| folder.exists()) {
            self.tree.host(folder)?;
        }
        for (folder, mode) in FOLDERS {
            self.tree.directory(folder, *mode)?;
        }
        Ok(())
    }

    fn system(&mut self) -> io::Result<()> {
        // The kernel opens the console for PID 1 before anything is mounted.
        self.tree.character_device("/dev/console", 0o600, 5, 1)?;
        self.tree.directory(UNITS, 0o755)?;
        let beside = std::env::current_exe()?;
        for name in ["cellinit", "cell", "cell-wasm"] {
            let program = beside.with_file_name(name);
            if program.is_file() {
                self.tree.copy(&program, &Path::new(PROGRAMS).join(name))?;
            } else if name == "cellinit" {
                return Err(about(&program, io::Error::from(io::ErrorKind::NotFound)));
            }
        }
        self.tree.symlink("/init", &format!("{PROGRAMS}/cellinit"))?;
        for name in POWER_NAMES {
            self.tree.symlink(&format!("/usr/sbin/{name}"), &format!("{PROGRAMS}/cell"))?;
        }
        self.tree.file("/etc/hostname", 0o644, "cellinit\n")?;
        self.tree.file("/etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost\n")
    }

    fn unit(&mut self, unit: &Unit) -> io::Result<()> {
        let text = fs::read_to_string(&unit.source).map_err(|error| about(&unit.source, error))?;
        let inside = Path::new(UNITS).join(format!("{}.toml", unit.name));
        // Read once more from where it will be: paths relative to the unit file then say where the image must have what they name.
        let moved =
            unit::parse(&inside, &text).map_err(|faults| io::Error::other(faults.iter().map(ToString::to_string).collect::<String>()))?;
        self.tree.file(&inside.to_string_lossy(), 0o644, text)?;

        self.root_and_mounts(unit, &moved)?;
        self.payload(unit, &moved)?;
        for probe in [&unit.health.startup, &unit.health.live, &unit.health.ready].into_iter().flatten() {
            if let Check::Exec { argv } = &probe.check {
                self.command(unit, argv)?;
            }
        }
        for (file, inside) in
            unit.env.files.iter().zip(&moved.env.files).filter(|(file, _)| !file.optional || Path::new(&file.path).exists())
        {
            self.named(unit, &file.path, &inside.path, false)?;
        }
        let identities = [Some(&unit.user.user), unit.user.group.as_ref()].into_iter().flatten();
        self.users.extend(identities.filter_map(|identity| match identity {
            Identity::Name(name) => Some(name.clone()),
            Identity::Id(_) | Identity::Dynamic => None,
        }));
        Ok(())
    }

    fn root_and_mounts(&mut self, unit: &Unit, moved: &Unit) -> io::Result<()> {
        if let (Some(root), Some(inside)) = (&unit.rootfs.path, &moved.rootfs.path) {
            self.named(unit, root, inside, unit.rootfs.writable)?;
        }
        for (mount, inside) in unit.mounts.iter().zip(&moved.mounts) {
            if let (MountKind::Bind { source, .. }, MountKind::Bind { source: inside, .. }) = (&mount.kind, &inside.kind) {
                self.named(unit, source, inside, mount.writable)?;
            }
        }
        Ok(())
    }

    fn payload(&mut self, unit: &Unit, moved: &Unit) -> io::Result<()> {
        match (&unit.payload, &moved.payload) {
            (Payload::Native { exec }, _) => self.command(unit, exec),
            (Payload::Wasm(wasm), Payload::Wasm(inside)) => {
                self.named(unit, &wasm.module, &inside.module, false)?;
                for (dir, inside) in wasm.dirs.iter().zip(&inside.dirs) {
                    self.named(unit, &dir.host, &inside.host, dir.writable)?;
                }
                self.compiled(Path::new(&wasm.module)).map_err(|error| about(Path::new(&wasm.module), error))
            }
            _ => Ok(()),
        }
    }

    /// A path that a unit file names as such.
    fn named(&mut self, unit: &Unit, host: &str, inside: &str, writable: bool) -> io::Result<()> {
        if is_made_inside(inside) {
            if Path::new(host).is_file() {
                self.is_covered(unit, Path::new(inside));
            }
            return Ok(());
        }
        if writable {
            self.gathered.writable.insert(inside.to_owned());
        }
        if !Path::new(host).exists() {
            if !self.tree.contains(Path::new(inside)) {
                self.gathered.notes.push(format!("unit {}: {host} is not on this host, and not in the image", unit.name));
            }
            return Ok(());
        }
        if host == inside {
            // With the links on the way, for those who look at the path and not at what it leads to.
            self.tree.host(Path::new(host))?;
        }
        self.tree.copy(Path::new(host), Path::new(inside))
    }

    /// It would lie below a mount that PID 1 makes.
    fn is_covered(&mut self, unit: &Unit, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let path = path.display();
        self.gathered.notes.push(format!(
            "unit {}: {path} is not in the image, and will not be found inside: that folder is made anew at boot; put it elsewhere (--add {path}:/opt/{name}) and name that place in the unit",
            unit.name
        ));
    }

    /// A program, and what its arguments seem to name.
    fn command(&mut self, unit: &Unit, argv: &[String]) -> io::Result<()> {
        let on_its_own_root = unit.rootfs.path.is_some() || matches!(unit.isolation.profile, Profile::Strict | Profile::Wasm);
        if on_its_own_root {
            return Ok(());
        }
        let path = unit.env.set.get("PATH").map(String::as_str);
        let Some((name, arguments)) = argv.split_first() else { return Ok(()) };
        match programs::find(name, path) {
            Some(program) if is_made_inside(&program.to_string_lossy()) => self.is_covered(unit, &program),
            Some(program) => self.programs.add(self.tree, &program)?,
            None if self.tree.contains(Path::new(name)) => {}
            None => self.gathered.notes.push(format!("unit {}: {name} is no program on this host, and not in the image", unit.name)),
        }
        for (index, argument) in arguments.iter().enumerate() {
            // `sh -c TEXT`, or `busybox sh -c TEXT`.
            if is_shell_option(&argv[..=index]) {
                for program in programs::named_in_shell_text(argument, path) {
                    self.programs.add(self.tree, &program)?;
                }
            } else {
                self.argument(unit, argument)?;
            }
        }
        Ok(())
    }

    /// `/etc/x.conf` or `--config=/etc/x.conf`, where it is something here.
    fn argument(&mut self, unit: &Unit, argument: &str) -> io::Result<()> {
        let path = argument.split_once('=').map_or(argument, |(_, value)| value);
        let path = Path::new(path);
        if !path.is_absolute() || path.parent().is_none() || !path.exists() {
            return Ok(());
        }
        if is_made_inside(&path.to_string_lossy()) {
            if path.is_file() {
                self.is_covered(unit, path);
            }
            return Ok(());
        }
        let real = self.tree.host(path)?;
        if path.is_file() && programs::find(&path.to_string_lossy(), None).is_some() {
            return self.programs.add(self.tree, path);
        }
        // An argument is a guess: what is too much for an image is said, and left out.
        if let Err(error) = self.tree.copy(&real, &real) {
            self.gathered.notes.push(format!("unit {}: argument {argument} is not (all) in the image: {error}", unit.name));
        }
        Ok(())
    }

    /// Machine code that an earlier start on this host left: inside, it is found by the module's digest.
    fn compiled(&mut self, module: &Path) -> io::Result<()> {
        let digest: String = Sha256::digest(fs::read(module)?).iter().map(|byte| format!("{byte:02x}")).collect();
        for entry in fs::read_dir(COMPILED).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(&digest) {
                self.tree.copy(&entry.path(), &Path::new(COMPILED).join(name))?;
            }
        }
        Ok(())
    }

    /// Only the accounts that are needed: an image does not tell who works on this host.
    fn accounts(&mut self) -> io::Result<()> {
        for (file, always) in [("/etc/passwd", ["root", "nobody"]), ("/etc/group", ["root", "nogroup"])] {
            let text = fs::read_to_string(file).map_err(|error| about(Path::new(file), error))?;
            let wanted = |line: &&str| line.split(':').next().is_some_and(|name| always.contains(&name) || self.users.contains(name));
            let lines: String = text.lines().filter(wanted).map(|line| format!("{line}\n")).collect();
            self.tree.file(file, 0o644, lines)?;
        }
        Ok(())
    }
}

/// These words end in `sh -c`: the next one is a program's text.
fn is_shell_option(words: &[String]) -> bool {
    matches!(words, [.., shell, option] if shell.ends_with("sh") && option == "-c")
}

fn is_made_inside(path: &str) -> bool {
    MADE_INSIDE.iter().any(|folder| Path::new(path).starts_with(folder))
}
