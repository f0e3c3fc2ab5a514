//! `cellinit`: the supervisor, and the roles that it starts itself in.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match arguments.get(1) {
        Some(role) if role == cellinit::log::ROLE => match cellinit::log::run(arguments.get(2).map_or("log".as_ref(), |a| a.as_ref())) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("cellinit log-writer: {e}");
                ExitCode::FAILURE
            }
        },
        _ => ExitCode::from(2),
    }
}
