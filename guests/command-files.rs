//! Does with each path in its arguments what the word before it says, and tells how it went:
//! `list DIR`, `read FILE`, `write FILE`.

use std::fs;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for pair in arguments.chunks(2) {
        let [verb, path] = pair else { panic!("a verb without a path") };
        let result = match verb.as_str() {
            "list" => list(path),
            "read" => fs::read_to_string(path),
            "write" => fs::write(path, "written by the guest").map(|()| "ok".into()),
            verb => panic!("no such verb: {verb}"),
        };
        match result {
            Ok(text) => println!("{verb} {path}: {text}"),
            Err(error) => println!("{verb} {path}: refused: {error}"),
        }
    }
}

fn list(path: &str) -> std::io::Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.join(" "))
}
