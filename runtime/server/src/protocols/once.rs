//! Each known field of a request's object may be given once: a second one would silently win over the first.

use crate::json::Fault;

/// Which of up to 32 known fields were read.
#[derive(Default)]
pub struct Once(u32);

impl Once {
    /// Takes note of `key`, one of `known`; `path` is what stands before it in a refusal. Other keys are passed over.
    pub fn take(&mut self, known: &[&str], key: &str, path: &str) -> Result<(), Fault> {
        let Some(index) = known.iter().position(|name| *name == key) else { return Ok(()) };
        if self.0 & (1 << index) != 0 {
            return Err(Fault::Value { path: format!("{path}{key}"), message: "the field is given twice".into() });
        }
        self.0 |= 1 << index;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_fields_count_and_only_once() {
        let mut once = Once::default();
        for key in ["a", "b", "x", "x"] {
            once.take(&["a", "b"], key, ".").unwrap();
        }
        let fault = once.take(&["a", "b"], "b", "in.").unwrap_err();
        assert_eq!(fault, Fault::Value { path: "in.b".into(), message: "the field is given twice".into() });
    }
}
