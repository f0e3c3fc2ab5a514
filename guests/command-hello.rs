//! Says hello, then everything it was given: arguments, environment, directories.

fn main() {
    println!("hello");
    for argument in std::env::args() {
        println!("arg {argument}");
    }
    for (name, value) in std::env::vars() {
        println!("env {name}={value}");
    }
    eprintln!("hello on stderr");
}
