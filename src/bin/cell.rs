//! `cell`: what a person types.

fn main() -> std::process::ExitCode {
    cellinit::ctl::main()
}
