//! Tells the server which tokenizers it is built with: `serve --version` prints it, and a build records it.

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    let lock = std::fs::read_to_string("Cargo.lock").expect("Cargo.lock can be read");
    let (_, package) = lock.split_once("name = \"tokenizers\"\nversion = \"").expect("Cargo.lock names tokenizers");
    let (version, _) = package.split_once('"').expect("a version ends with a quote");
    println!("cargo::rustc-env=TOKENIZERS_VERSION={version}");
}
