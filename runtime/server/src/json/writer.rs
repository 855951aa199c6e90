//! Tensors and strings → JSON text.

use crate::tensor::{Data, Tensor};

/// Appends a string with its quotes.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if (c as u32) < 0x20 => out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes()),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// Appends `"key":`.
pub fn key(out: &mut Vec<u8>, name: &str) {
    string(out, name);
    out.push(b':');
}

/// Appends `[…]` of what `each` appends.
pub fn list<T>(out: &mut Vec<u8>, items: &[T], each: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        each(out, item);
    }
    out.push(b']');
}

/// Appends an integer.
pub fn integer(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa(value, &mut [0; 20]));
}

/// Appends a float32: `null` where it is not finite.
pub fn number(out: &mut Vec<u8>, value: f32) {
    values(out, &Data::Float32(vec![value]), 0, 1);
}

/// Appends the tensor as nested lists. Floats have the fewest digits that give the same float32 again; JSON has no NaN
/// and no infinities, so these are `null`.
pub fn nested(out: &mut Vec<u8>, tensor: &Tensor) {
    level(out, &tensor.shape, &tensor.data, 0, tensor.data.len());
}

/// Appends the elements as one flat list.
pub fn flat(out: &mut Vec<u8>, data: &Data) {
    level(out, &[data.len()], data, 0, data.len());
}

fn level(out: &mut Vec<u8>, shape: &[usize], data: &Data, from: usize, to: usize) {
    match shape {
        [] => values(out, data, from, to),
        [_] => {
            out.push(b'[');
            values(out, data, from, to);
            out.push(b']');
        }
        [rows, rest @ ..] => {
            let stride = if *rows == 0 { 0 } else { (to - from) / rows };
            out.push(b'[');
            for row in 0..*rows {
                if row > 0 {
                    out.push(b',');
                }
                level(out, rest, data, from + row * stride, from + (row + 1) * stride);
            }
            out.push(b']');
        }
    }
}

fn values(out: &mut Vec<u8>, data: &Data, from: usize, to: usize) {
    match data {
        Data::Float32(v) => {
            out.reserve(12 * (to - from));
            let mut buffer = zmij::Buffer::new();
            separated(out, &v[from..to], |out, x| {
                out.extend_from_slice(if x.is_finite() { buffer.format_finite(*x).as_bytes() } else { b"null" });
            });
        }
        Data::Int64(v) => separated(out, &v[from..to], |out, x| signed(out, *x)),
        Data::Int32(v) => separated(out, &v[from..to], |out, x| signed(out, i64::from(*x))),
        Data::Bool(v) => {
            separated(out, &v[from..to], |out, x| out.extend_from_slice(if *x == 0 { b"false" } else { b"true" }));
        }
    }
}

fn separated<T>(out: &mut Vec<u8>, values: &[T], mut one: impl FnMut(&mut Vec<u8>, &T)) {
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        one(out, value);
    }
}

fn signed(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(itoa(value.unsigned_abs(), &mut [0; 20]));
}

fn itoa(mut value: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &buffer[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(shape: &[usize], data: Data) -> String {
        let mut out = Vec::new();
        nested(&mut out, &Tensor { shape: shape.to_vec(), data });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tensors_are_nested_lists() {
        assert_eq!(text(&[2, 2], Data::Int64(vec![1, -2, i64::MIN, 0])), "[[1,-2],[-9223372036854775808,0]]");
        assert_eq!(text(&[0, 3], Data::Float32(vec![])), "[]");
        assert_eq!(text(&[2, 0], Data::Float32(vec![])), "[[],[]]");
        assert_eq!(text(&[], Data::Bool(vec![1])), "true");
    }

    #[test]
    fn floats_come_back_bit_for_bit() {
        for bits in (0u32..=u32::MAX).step_by(65_521) {
            let x = f32::from_bits(bits);
            let written = text(&[1], Data::Float32(vec![x]));
            if x.is_finite() {
                let inner = &written[1..written.len() - 1];
                assert_eq!(inner.parse::<f32>().unwrap().to_bits(), bits, "{written}");
                assert_eq!(crate::json::Reader::new(inner).number().unwrap().float as f32, x);
            } else {
                assert_eq!(written, "[null]");
            }
        }
    }

    #[test]
    fn strings_are_escaped() {
        let mut out = Vec::new();
        string(&mut out, "a\"\\\n\u{1}é");
        assert_eq!(String::from_utf8(out).unwrap(), "\"a\\\"\\\\\\n\\u0001é\"");
    }
}
