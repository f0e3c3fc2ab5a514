//! The command line. Six words, read by hand: PID 1 links no parser of arguments.

use std::path::PathBuf;

use super::probes;

pub const USAGE: &str = "\
usage: cellinit --units PATH... [--run-dir DIR]   supervise the units of a folder
       cellinit run FILE [--run-dir DIR]          one unit in the foreground; its exit code is passed on
";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    Supervise(Options),
    Run {
        file: PathBuf,
        run_dir: Option<PathBuf>,
    },
    LogWriter(PathBuf),
    Probe(Vec<String>),
    /// PID 1 of a machine.
    Machine,
    Help,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub units: Vec<PathBuf>,
    /// `None`: the default, or what CELLINIT_RUN_DIR says.
    pub run_dir: Option<PathBuf>,
}

/// A kernel hands its init whatever it did not understand of its own command line, so PID 1 without `--units` is the init of a
/// machine whatever else is written there.
pub fn role(arguments: &[String], pid1: bool) -> Result<Role, String> {
    let mut words = arguments.iter();
    match words.next().map(String::as_str) {
        Some(crate::log::ROLE) => return one(words.as_slice(), "the log directory").map(Role::LogWriter),
        Some(probes::ROLE) => return Ok(Role::Probe(words.as_slice().to_vec())),
        Some("run") => {
            let (rest, run_dir) = flags(words.as_slice())?;
            let (file, units) = (one(&rest.free, "one unit file")?, rest.units);
            return if units.is_empty() { Ok(Role::Run { file, run_dir }) } else { Err("`run` takes a file, not --units".into()) };
        }
        Some("help" | "--help" | "-h") if !pid1 => return Ok(Role::Help),
        _ => {}
    }
    match flags(arguments) {
        Ok((rest, run_dir)) if rest.free.is_empty() && !rest.units.is_empty() => {
            Ok(Role::Supervise(Options { units: rest.units, run_dir }))
        }
        _ if pid1 => Ok(Role::Machine),
        Ok((rest, _)) => Err(rest.free.first().map_or("--units is missing".into(), |word| format!("`{word}` is no option"))),
        Err(reason) => Err(reason),
    }
}

#[derive(Default)]
struct Rest {
    units: Vec<PathBuf>,
    free: Vec<String>,
}

fn flags(arguments: &[String]) -> Result<(Rest, Option<PathBuf>), String> {
    let (mut rest, mut run_dir) = (Rest::default(), None);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let (flag, inline) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut value = || inline.clone().or_else(|| words.next().cloned()).ok_or(format!("{flag} needs a path"));
        match flag {
            "--units" => rest.units.push(value()?.into()),
            "--run-dir" => run_dir = Some(value()?.into()),
            _ if flag.starts_with('-') => return Err(format!("`{flag}` is no option")),
            _ => rest.free.push(word.clone()),
        }
    }
    Ok((rest, run_dir))
}

fn one(words: &[String], what: &str) -> Result<PathBuf, String> {
    match words {
        [word] => Ok(word.into()),
        _ => Err(format!("{what} is missing, or there is too much")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles() {
        let supervise = |units: &[&str], run_dir: Option<&str>| {
            Ok(Role::Supervise(Options { units: units.iter().map(PathBuf::from).collect(), run_dir: run_dir.map(PathBuf::from) }))
        };
        for (line, pid1, expected) in [
            ("--units u --run-dir=/r", false, supervise(&["u"], Some("/r"))),
            ("--units u --units=v", true, supervise(&["u", "v"], None)),
            ("quiet splash --foo", true, Ok(Role::Machine)),
            ("", true, Ok(Role::Machine)),
            ("run f.toml --run-dir /r", false, Ok(Role::Run { file: "f.toml".into(), run_dir: Some("/r".into()) })),
            ("log-writer /l", false, Ok(Role::LogWriter("/l".into()))),
            ("probe tcp a:1", false, Ok(Role::Probe(vec!["tcp".into(), "a:1".into()]))),
            ("--help", false, Ok(Role::Help)),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(role(&words, pid1), expected, "{line}");
        }
        for line in ["", "--units", "units", "--nope", "run", "run a b", "log-writer"] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert!(role(&words, false).is_err(), "{line}");
        }
    }
}
