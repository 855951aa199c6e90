//! What the bodies of several protocols have in common: their fields, and what an answer says of its tokens.

use super::native::named_string;
use crate::bundle::task::{Overflow, Side};
use crate::json::{Fault, Reader, writer};
use crate::tokenize::Asked;

pub fn fault(path: &str, message: &str) -> Fault {
    Fault::Value { path: path.into(), message: message.into() }
}

/// A field that is none of `known` and could change the answer; `inert` ones could not.
pub fn unknown(field: &str, known: &[&str], inert: &[&str]) -> Fault {
    let path = field.chars().take(64).collect::<String>();
    fault(&path, &format!("the field is not known; known are {}", [known, inert].concat().join(", ")))
}

pub fn read_switch(reader: &mut Reader, name: &str) -> Result<bool, Fault> {
    match reader.peek() {
        Some(b't' | b'f') => reader.boolean(),
        _ => Err(fault(name, &format!("expected true or false, got {}", reader.kind()))),
    }
}

/// A whole number of at least 1.
pub fn read_count(reader: &mut Reader, name: &str) -> Result<usize, Fault> {
    if !matches!(reader.peek(), Some(b'-' | b'0'..=b'9')) {
        return Err(fault(name, &format!("expected a whole number of at least 1, got {}", reader.kind())));
    }
    let number = reader.number()?.int.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    number.ok_or_else(|| fault(name, "expected a whole number of at least 1"))
}

/// The value of `truncate` or `truncation_direction`: what becomes of a text that is too long.
pub fn read_cut(reader: &mut Reader, name: &str, asked: &mut Asked) -> Result<(), Fault> {
    let side = if name == "truncate" {
        let (overflow, side) = read_truncate(reader)?;
        asked.overflow = Some(overflow);
        side
    } else {
        Some(read_side(reader)?)
    };
    match (asked.side, side) {
        (Some(one), Some(other)) if one != other => {
            Err(fault(name, "truncate and truncation_direction name different ends"))
        }
        _ => {
            asked.side = side.or(asked.side);
            Ok(())
        }
    }
}

/// `true`, `false`, or the end that a long text loses: `"START"`, `"END"`, `"NONE"`.
fn read_truncate(reader: &mut Reader) -> Result<(Overflow, Option<Side>), Fault> {
    if reader.peek() != Some(b'"') {
        let truncate = read_switch(reader, "truncate")?;
        return Ok((if truncate { Overflow::Truncate } else { Overflow::Reject }, None));
    }
    match &*named_string(reader, "truncate")?.to_ascii_lowercase() {
        "none" => Ok((Overflow::Reject, None)),
        "start" => Ok((Overflow::Truncate, Some(Side::Left))),
        "end" => Ok((Overflow::Truncate, Some(Side::Right))),
        _ => Err(fault("truncate", "expected true, false, \"START\", \"END\" or \"NONE\"")),
    }
}

fn read_side(reader: &mut Reader) -> Result<Side, Fault> {
    match &*named_string(reader, "truncation_direction")?.to_ascii_lowercase() {
        "left" => Ok(Side::Left),
        "right" => Ok(Side::Right),
        _ => Err(fault("truncation_direction", "expected \"left\" or \"right\"")),
    }
}

/// Appends `,"usage":{…}` and the brace that ends the answer.
pub fn end_with_usage(out: &mut Vec<u8>, tokens: usize) {
    out.extend_from_slice(b",\"usage\":{\"prompt_tokens\":");
    writer::integer(out, tokens as u64);
    out.extend_from_slice(b",\"total_tokens\":");
    writer::integer(out, tokens as u64);
    out.extend_from_slice(b"}}");
}
