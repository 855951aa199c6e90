//! JSON under a digest: one text for equal values, the same that Python writes with
//! `json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)`.

use std::fmt::Write;

use serde_json::Value;

pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_value(value, &mut out);
    out
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) if number.is_f64() => write_float(number.as_f64().unwrap_or_default(), out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                // Writing into a string cannot fail.
                let _ = write!(out, "{}:", Value::from(name.as_str()));
                write_value(member, out);
            }
            out.push('}');
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

/// The shortest digits that give the float back; with an exponent below 1e-4 and from 1e16 on.
fn write_float(value: f64, out: &mut String) {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let _ = if value == 0.0 || (-4..16).contains(&exponent) {
        write!(out, "{value:?}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", exponent.abs())
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_python_writes_them() {
        let value: Value =
            serde_json::from_str(r#"{"b": [1, -2, null], "a": {"é": "\u00e9\n\u001f\"\u007f", "": true}}"#).unwrap();
        assert_eq!(canonical(&value), "{\"a\":{\"\":true,\"é\":\"é\\n\\u001f\\\"\u{7f}\"},\"b\":[1,-2,null]}");
        // Each is what repr() gives.
        for text in [
            "0.0",
            "-0.0",
            "2.0",
            "0.1",
            "0.0001",
            "1e-05",
            "1.5e-07",
            "1234567890123456.0",
            "1e+16",
            "1.5e+16",
            "1e+22",
            "1.7976931348623157e+308",
            "5e-324",
            "0.30000000000000004",
            "7.205759403792794e+16",
            "-1e-05",
        ] {
            let float: Value = serde_json::from_str(text).unwrap();
            assert_eq!(canonical(&float), text);
        }
        assert_eq!(canonical(&serde_json::json!(9_007_199_254_740_993_u64)), "9007199254740993");
    }
}
