//! Lines for the operator on stderr.

use std::io::Write;

pub fn error(text: &str) {
    line("error", text);
}

pub fn warning(text: &str) {
    line("warning", text);
}

pub fn note(text: &str) {
    line("note", text);
}

/// One line; control characters of the text are escaped, so that nothing from outside can forge a line.
fn line(level: &str, text: &str) {
    let clean: String =
        text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
    // A closed stderr is no reason to stop serving.
    let _ = writeln!(std::io::stderr().lock(), "serve: {level}: {clean}");
}
