fn main() -> std::process::ExitCode {
    cellinit::init::main(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect())
}
