//! A pull reader of JSON over one UTF-8 text.
//!
//! Numbers may also be `NaN`, `Infinity` and `-Infinity` (what Python's `json` writes), so that a NaN reaches the check
//! that names its field. Nesting is bounded, so that no input can exhaust the stack.

use std::borrow::Cow;

/// Deepest nesting that is read.
pub const MAX_DEPTH: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Not JSON: at which byte, and what was expected there.
    Syntax { at: usize, expected: &'static str },
    /// JSON, but not what the place takes: the path below the value's own name (`[1][3]`), and what is wrong.
    Value { path: String, message: String },
}

impl Fault {
    pub fn value(message: impl Into<String>) -> Self {
        Fault::Value { path: String::new(), message: message.into() }
    }
}

/// A number as written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    pub float: f64,
    /// The exact value where it was written without fraction or exponent and fits.
    pub int: Option<i64>,
    /// Whether it was written without fraction or exponent.
    pub integral: bool,
}

#[derive(Clone)]
pub struct Reader<'a> {
    text: &'a str,
    pos: usize,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Reader { text, pos: 0 }
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    fn syntax<T>(&self, expected: &'static str) -> Result<T, Fault> {
        Err(Fault::Syntax { at: self.pos, expected })
    }

    /// The next byte that is not white space, without taking it.
    pub fn peek(&mut self) -> Option<u8> {
        let bytes = self.bytes();
        while let Some(b) = bytes.get(self.pos) {
            if !matches!(b, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(*b);
            }
            self.pos += 1;
        }
        None
    }

    /// Takes the next byte if it is `byte`.
    pub fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.pos += usize::from(found);
        found
    }

    pub fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), Fault> {
        if self.eat(byte) { Ok(()) } else { self.syntax(expected) }
    }

    /// Checks that nothing but white space is left.
    pub fn end(&mut self) -> Result<(), Fault> {
        if self.peek().is_none() { Ok(()) } else { self.syntax("the end of the document") }
    }

    /// What the next value is, in words, for messages.
    pub fn kind(&mut self) -> &'static str {
        match self.peek() {
            Some(b'"') => "a string",
            Some(b'[') => "a list",
            Some(b'{') => "an object",
            Some(b't' | b'f') => "a bool",
            Some(b'n') => "null",
            Some(_) => "a number",
            None => "nothing",
        }
    }

    /// Reads an object: `entry` is called with each key and must read its value.
    pub fn object(&mut self, mut entry: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), Fault>) -> Result<(), Fault> {
        self.expect(b'{', "an object")?;
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            self.peek();
            let key = self.string()?;
            self.expect(b':', "a colon")?;
            entry(self, key)?;
            if self.eat(b',') {
                continue;
            }
            return self.expect(b'}', "a comma or the object's end");
        }
    }

    /// Reads a list: `item` is called with each index and must read the value.
    pub fn array(&mut self, mut item: impl FnMut(&mut Self, usize) -> Result<(), Fault>) -> Result<(), Fault> {
        self.expect(b'[', "a list")?;
        if self.eat(b']') {
            return Ok(());
        }
        for index in 0.. {
            item(self, index)?;
            if !self.eat(b',') {
                break;
            }
        }
        self.expect(b']', "a comma or the list's end")
    }

    /// Reads a string. A lone surrogate is a [`Fault::Value`]: such a string is JSON, but no Unicode text.
    pub fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.expect(b'"', "a string")?;
        let start = self.pos;
        let plain = self.plain_run()?;
        if self.bytes()[self.pos] == b'"' {
            self.pos += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut out = String::with_capacity(plain.len() + 16);
        out.push_str(plain);
        loop {
            if self.bytes()[self.pos] == b'"' {
                self.pos += 1;
                return Ok(Cow::Owned(out));
            }
            match self.escape()? {
                Some(c) => out.push(c),
                None => {
                    let message =
                        format!("not Unicode text: a lone surrogate {} bytes into the string", self.pos - start);
                    return Err(Fault::value(message));
                }
            }
            out.push_str(self.plain_run()?);
        }
    }

    /// The characters up to the next quote or backslash, which is left.
    fn plain_run(&mut self) -> Result<&'a str, Fault> {
        let bytes = self.bytes();
        let start = self.pos;
        let stop = bytes[start..].iter().position(|b| matches!(b, b'"' | b'\\') || *b < 0x20);
        let Some(stop) = stop else {
            self.pos = bytes.len();
            return self.syntax("the string's end");
        };
        self.pos = start + stop;
        if bytes[self.pos] < 0x20 {
            return self.syntax("an escape: control characters may not stand in a string");
        }
        Ok(&self.text[start..self.pos])
    }

    /// One escape; `None` for a lone surrogate.
    fn escape(&mut self) -> Result<Option<char>, Fault> {
        self.pos += 1;
        let Some(kind) = self.bytes().get(self.pos) else { return self.syntax("an escape") };
        self.pos += 1;
        Ok(Some(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4()?;
                if !(0xd800..0xe000).contains(&high) {
                    return Ok(char::from_u32(high));
                }
                if high >= 0xdc00 || !self.bytes()[self.pos..].starts_with(b"\\u") {
                    return Ok(None);
                }
                self.pos += 2;
                let low = self.hex4()?;
                if !(0xdc00..0xe000).contains(&low) {
                    return Ok(None);
                }
                return Ok(char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)));
            }
            _ => {
                self.pos -= 1;
                return self.syntax("an escape");
            }
        }))
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let digits = self.bytes().get(self.pos..self.pos + 4);
        let value =
            digits.and_then(|d| d.iter().try_fold(0u32, |value, b| Some(value * 16 + char::from(*b).to_digit(16)?)));
        let Some(value) = value else { return self.syntax("four hexadecimal digits") };
        self.pos += 4;
        Ok(value)
    }

    /// Reads a number (or NaN or an infinity).
    pub fn number(&mut self) -> Result<Number, Fault> {
        self.peek();
        let bytes = self.bytes();
        let start = self.pos;
        let negative = bytes.get(start) == Some(&b'-');
        let mut at = start + usize::from(negative);
        match bytes.get(at) {
            Some(b'0'..=b'9') => {}
            Some(b'N' | b'I') => return self.non_finite(start, at, negative),
            _ => return self.syntax("a value"),
        }
        let first = at;
        let mut mantissa = 0u64;
        let mut digits = 0u32;
        while let Some(b @ b'0'..=b'9') = bytes.get(at) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(b - b'0'));
            digits += 1;
            at += 1;
        }
        if digits > 1 && bytes[first] == b'0' {
            return self.syntax("a number without leading zeros");
        }
        let mut integral = true;
        let mut exponent = 0i64;
        if bytes.get(at) == Some(&b'.') {
            integral = false;
            let point = at;
            at += 1;
            while let Some(b @ b'0'..=b'9') = bytes.get(at) {
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(b - b'0'));
                digits += 1;
                at += 1;
            }
            exponent = -((at - point - 1) as i64);
            if exponent == 0 {
                self.pos = at;
                return self.syntax("a digit");
            }
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            integral = false;
            at += 1;
            let minus = bytes.get(at) == Some(&b'-');
            at += usize::from(minus || bytes.get(at) == Some(&b'+'));
            let digits_at = at;
            let mut written = 0i64;
            while let Some(b @ b'0'..=b'9') = bytes.get(at) {
                written = (written * 10 + i64::from(b - b'0')).min(100_000);
                at += 1;
            }
            if at == digits_at {
                self.pos = at;
                return self.syntax("a digit");
            }
            exponent += if minus { -written } else { written };
        }
        self.pos = at;
        // Up to 2^53 and 10^22 both factors are exact, so one rounding gives the nearest double.
        let exact = digits <= 19 && mantissa <= 1 << 53 && exponent.abs() <= 22;
        let float = if exact {
            let scale = POWERS[exponent.unsigned_abs() as usize];
            let value = if exponent < 0 { mantissa as f64 / scale } else { mantissa as f64 * scale };
            if negative { -value } else { value }
        } else {
            self.text[start..at].parse::<f64>().unwrap_or(f64::NAN)
        };
        let int = if !integral {
            None
        } else if digits <= 18 {
            Some(if negative { -(mantissa as i64) } else { mantissa as i64 })
        } else {
            self.text[start..at].parse::<i64>().ok()
        };
        Ok(Number { float, int, integral })
    }

    fn non_finite(&mut self, start: usize, at: usize, negative: bool) -> Result<Number, Fault> {
        let rest = &self.bytes()[at..];
        let (len, float) = if rest.starts_with(b"NaN") && !negative {
            (3, f64::NAN)
        } else if rest.starts_with(b"Infinity") {
            (8, if negative { f64::NEG_INFINITY } else { f64::INFINITY })
        } else {
            self.pos = start;
            return self.syntax("a value");
        };
        self.pos = at + len;
        Ok(Number { float, int: None, integral: false })
    }

    /// Takes `true` or `false`.
    pub fn boolean(&mut self) -> Result<bool, Fault> {
        self.peek();
        if self.literal("true") {
            Ok(true)
        } else if self.literal("false") {
            Ok(false)
        } else {
            self.syntax("true or false")
        }
    }

    /// Takes `null` if it is next.
    pub fn null(&mut self) -> bool {
        self.peek();
        self.literal("null")
    }

    fn literal(&mut self, word: &str) -> bool {
        let found = self.bytes()[self.pos..].starts_with(word.as_bytes());
        self.pos += if found { word.len() } else { 0 };
        found
    }

    /// Passes over one value of any kind and returns its text.
    pub fn skip(&mut self) -> Result<&'a str, Fault> {
        self.peek();
        let start = self.pos;
        self.skip_nested(0)?;
        Ok(&self.text[start..self.pos])
    }

    fn skip_nested(&mut self, depth: usize) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return self.syntax("at most 64 levels of nesting");
        }
        match self.peek() {
            Some(b'{') => self.object(|reader, _| reader.skip_nested(depth + 1)),
            Some(b'[') => self.array(|reader, _| reader.skip_nested(depth + 1)),
            Some(b'"') => match self.string() {
                Err(Fault::Value { .. }) => self.skip_string_rest(),
                other => other.map(drop),
            },
            Some(b't' | b'f') => self.boolean().map(drop),
            Some(b'n') if self.null() => Ok(()),
            Some(_) => self.number().map(drop),
            None => self.syntax("a value"),
        }
    }

    /// Goes on behind a lone surrogate, whose string is of no interest here.
    fn skip_string_rest(&mut self) -> Result<(), Fault> {
        loop {
            self.plain_run()?;
            if self.bytes()[self.pos] == b'"' {
                self.pos += 1;
                return Ok(());
            }
            self.escape()?;
        }
    }
}

const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Result<Number, Fault> {
        let mut reader = Reader::new(text);
        let number = reader.number()?;
        reader.end()?;
        Ok(number)
    }

    #[test]
    fn numbers_equal_those_of_the_standard_library() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let float = f64::from_bits(state);
            for text in [format!("{float:e}"), format!("{}", f32::from_bits(state as u32)), format!("{}", state >> 11)]
            {
                if text.contains('N') || text.contains("inf") {
                    continue;
                }
                let want: f64 = text.parse().unwrap();
                assert_eq!(number(&text).unwrap().float.to_bits(), want.to_bits(), "{text}");
            }
        }
    }

    #[test]
    fn integers_are_exact_to_the_bounds_of_int64() {
        for value in [0, 1, -1, i64::MAX, i64::MIN, 999_999_999_999_999_999] {
            assert_eq!(number(&value.to_string()).unwrap().int, Some(value));
        }
        let beyond = number("9223372036854775808").unwrap();
        assert_eq!((beyond.int, beyond.integral), (None, true));
        assert!(!number("1.0").unwrap().integral);
    }

    #[test]
    fn non_finite_numbers_are_read() {
        assert!(number("NaN").unwrap().float.is_nan());
        assert_eq!(number("-Infinity").unwrap().float, f64::NEG_INFINITY);
        assert_eq!(number("1e999").unwrap().float, f64::INFINITY);
    }

    #[test]
    fn what_is_no_number_is_a_syntax_fault() {
        for text in ["01", "1.", ".5", "1e", "-", "+1", "1x", "--1", "-NaN", "Inf", ""] {
            assert!(matches!(number(text), Err(Fault::Syntax { .. })), "{text}");
        }
    }

    #[test]
    fn strings_decode_their_escapes() {
        let mut reader = Reader::new(r#""a\n\u00e9\ud83d\ude00\u0000\"""#);
        assert_eq!(reader.string().unwrap(), "a\né😀\0\"");
    }

    #[test]
    fn a_lone_surrogate_is_json_but_no_text() {
        for text in [r#""\ud800""#, r#""\udc00x""#, r#""\ud800\ud800""#] {
            assert!(matches!(Reader::new(text).string(), Err(Fault::Value { .. })), "{text}");
            assert_eq!(Reader::new(text).skip().unwrap(), text);
        }
    }

    #[test]
    fn broken_strings_are_syntax_faults() {
        for text in ["\"abc", "\"a\nb\"", r#""\x""#, r#""\u12""#, "\"\\"] {
            assert!(matches!(Reader::new(text).string(), Err(Fault::Syntax { .. })), "{text}");
        }
    }

    #[test]
    fn skip_takes_exactly_one_value_and_bounds_nesting() {
        let text = r#"{"a": [1, {"b": null}], "c": true} tail"#;
        let mut reader = Reader::new(text);
        assert_eq!(reader.skip().unwrap(), &text[..text.len() - 5]);
        let deep = "[".repeat(1_000_000);
        assert!(matches!(Reader::new(&deep).skip(), Err(Fault::Syntax { .. })));
        for text in ["{", "[1,]", "{\"a\"}", "{\"a\":1,}", "nul", "[1 2]"] {
            assert!(matches!(Reader::new(text).skip(), Err(Fault::Syntax { .. })), "{text}");
        }
    }
}
