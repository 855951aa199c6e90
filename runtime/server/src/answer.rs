//! How large an answer may become, known before it is rendered and, where its shapes are known by then, before it is
//! computed; and the memory that all answers share until they are sent.
//!
//! **Invariant**: outputs and text of the answers in the making never exceed [`SMALL_ANSWERS`] and [`LARGE_ANSWERS`],
//! as far as shapes are known before the run; none is rendered without a share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bundle::manifest::Model;
use crate::engine::Inputs;
use crate::memory::{LARGE_ANSWERS, MOST_ANSWER, SMALL_ANSWER, SMALL_ANSWERS};
use crate::refusal::{Reason, Refusal};
use crate::tensor::{DType, Dim, OutputSpec, Tensor};

/// How an output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    Base64,
    Binary,
    /// Rows of at most so many characters.
    Rows(u64),
}

/// Bytes of an answer beside its outputs: names of the model and fields, the request's id.
const FRAME: u64 = 6 << 10;

/// Longest id of a request that is given back.
pub const MOST_ID: usize = 256;

/// Bytes of an answer: its outputs as tensors, and the most that its text may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub tensors: u64,
    pub text: u64,
}

/// The sizes of symbolic dimensions in one request.
pub type Symbols<'a> = BTreeMap<&'a str, usize>;

/// Dimensions as a request's tensors show them, cut to the declared bounds (what is beyond them is refused anyway).
pub fn symbols<'a>(model: &'a Model, inputs: &Inputs) -> Symbols<'a> {
    let mut found = Symbols::new();
    for (spec, tensor) in model.inputs.iter().zip(inputs) {
        let Some(tensor) = tensor else { continue };
        for (dim, size) in spec.shape.iter().zip(&tensor.shape) {
            if let Dim::Symbol(symbol) = dim {
                let high = model.dims.get(symbol).map_or(*size, |(_, high)| *high);
                let most = found.entry(symbol.as_str()).or_insert(0);
                *most = (*size).min(high).max(*most);
            }
        }
    }
    found
}

/// The size before the run; `None` where an output's shape has an expression that only the model computes.
pub fn expected(outputs: &[OutputSpec], wanted: &[(usize, Form)], symbols: &Symbols) -> Option<Size> {
    let shape = |spec: &OutputSpec| {
        let dims = spec.shape.iter().map(|dim| match dim {
            Dim::Fixed(n) => Some(*n),
            Dim::Symbol(symbol) => symbols.get(symbol.as_str()).copied(),
        });
        dims.collect::<Option<Vec<usize>>>()
    };
    let shapes: Vec<_> = outputs.iter().map(|spec| Some((spec.dtype, shape(spec)?))).collect::<Option<_>>()?;
    Some(size_of(outputs, shapes.iter().map(|(dtype, shape)| (*dtype, shape.as_slice())), wanted))
}

/// The size after the run.
pub fn actual(outputs: &[OutputSpec], tensors: &[Tensor], wanted: &[(usize, Form)]) -> Size {
    size_of(outputs, tensors.iter().map(|t| (t.dtype(), t.shape.as_slice())), wanted)
}

/// The largest answer in JSON to a request within the declared bounds, as far as shapes are known.
#[cfg(test)]
pub fn largest(model: &Model) -> Option<Size> {
    let symbols = model.dims.iter().map(|(name, (_, high))| (name.as_str(), *high)).collect();
    let wanted: Vec<_> = (0..model.outputs.len()).map(|index| (index, Form::Json)).collect();
    expected(&model.outputs, &wanted, &symbols)
}

fn size_of<'a>(
    outputs: &[OutputSpec],
    shapes: impl Iterator<Item = (DType, &'a [usize])>,
    wanted: &[(usize, Form)],
) -> Size {
    let shapes: Vec<_> = shapes.collect();
    let bytes = |(dtype, shape): &(DType, &[usize])| product(shape).saturating_mul(dtype.size() as u64);
    let tensors = shapes.iter().fold(0u64, |sum, s| sum.saturating_add(bytes(s)));
    let mut text = FRAME;
    for (index, form) in wanted {
        let (Some(spec), Some(found)) = (outputs.get(*index), shapes.get(*index)) else { continue };
        // A name's characters may each become an escape of six.
        let head = 384 + 6 * spec.name.len() as u64;
        let values = match form {
            Form::Json => nested(found.0, found.1),
            // Each row is a string of its own.
            Form::Base64 => {
                let rows = found.1.first().map_or(1, |n| *n as u64);
                (bytes(found) / 3).saturating_mul(4).saturating_add(rows.saturating_mul(128))
            }
            Form::Binary => bytes(found),
            Form::Rows(each) => found.1.first().map_or(1, |n| *n as u64).saturating_mul(*each),
        };
        text = text.saturating_add(head).saturating_add(values);
    }
    Size { tensors, text }
}

/// Most characters of a tensor as nested lists: each value with its comma, each list with brackets and a comma. In
/// OpenAI's form each row stands in an object of its own.
fn nested(dtype: DType, shape: &[usize]) -> u64 {
    let value = match dtype {
        // Nine digits, and up to a dozen characters of sign, point, zeros or exponent; the test below tries them.
        DType::Float32 => 22,
        DType::Int64 => "-9223372036854775808,".len() as u64,
        DType::Int32 => "-2147483648,".len() as u64,
        DType::Bool => "false,".len() as u64,
    };
    let values = product(shape).saturating_mul(value);
    let mut lists = 0u64;
    for depth in 0..shape.len() {
        lists = lists.saturating_add(product(&shape[..depth]));
    }
    let rows = shape.first().map_or(0, |n| *n as u64).saturating_mul(80);
    values.saturating_add(lists.saturating_mul(3)).saturating_add(rows)
}

fn product(shape: &[usize]) -> u64 {
    shape.iter().fold(1u64, |n, d| n.saturating_mul(*d as u64))
}

/// The memory of all answers.
pub struct Answers {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// Somebody found no room since the last look.
    short: AtomicBool,
}

/// Shares are counted in KiB.
const UNIT: u64 = 1 << 10;

impl Default for Answers {
    fn default() -> Self {
        let permits = |bytes: u64| Arc::new(Semaphore::new((bytes / UNIT) as usize));
        Answers { small: permits(SMALL_ANSWERS), large: permits(LARGE_ANSWERS), short: AtomicBool::new(false) }
    }
}

impl Answers {
    /// Takes a share for an answer: 422 where it could be larger than any that is given, 429 where there is no room now.
    pub fn reserve(&self, size: Size) -> Result<Share, Refusal> {
        if size.text > MOST_ANSWER || size.tensors > MOST_ANSWER {
            let text = format!(
                "the answer may have {} bytes, and at most {MOST_ANSWER} are given: ask for fewer rows or fewer outputs",
                size.text.max(size.tensors)
            );
            return Err(Refusal::new(Reason::AnswerTooLarge, text));
        }
        let bytes = size.text + size.tensors;
        let room = if bytes <= SMALL_ANSWER { &self.small } else { &self.large };
        // At most 2 × 64 MiB: fits.
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        match Arc::clone(room).try_acquire_many_owned(units) {
            Ok(permit) => Ok(Share { permit, size }),
            Err(_) => {
                self.short.store(true, Ordering::Relaxed);
                Err(Refusal::new(Reason::Busy, "too many large answers at once"))
            }
        }
    }

    /// Whether somebody found no room since this was last asked.
    pub fn were_short(&self) -> bool {
        self.short.swap(false, Ordering::Relaxed)
    }
}

/// The answer to one request from before it is computed: which outputs are wanted, how, and its share of memory.
pub struct Plan<'a> {
    answers: &'a Answers,
    outputs: &'a [OutputSpec],
    wanted: Vec<(usize, Form)>,
    share: Option<Share>,
}

impl<'a> Plan<'a> {
    /// Reserves what the answer may take, where that can be known by now.
    pub fn new(
        answers: &'a Answers,
        outputs: &'a [OutputSpec],
        wanted: Vec<(usize, Form)>,
        symbols: &Symbols,
    ) -> Result<Self, Refusal> {
        let share = expected(outputs, &wanted, symbols).map(|size| answers.reserve(size)).transpose()?;
        Ok(Plan { answers, outputs, wanted, share })
    }

    /// The share to render the outputs in.
    pub fn share(self, tensors: &[Tensor]) -> Result<Share, Refusal> {
        let size = actual(self.outputs, tensors, &self.wanted);
        match self.share {
            Some(share) => share.fit(self.answers, size),
            None => self.answers.reserve(size),
        }
    }
}

/// A share of the answers' memory until this, or the body that holds it, is dropped.
#[derive(Debug)]
pub struct Share {
    permit: OwnedSemaphorePermit,
    size: Size,
}

impl Share {
    /// The share for what the answer came to: this one, unless that is more.
    pub fn fit(self, answers: &Answers, size: Size) -> Result<Self, Refusal> {
        if size.text <= self.size.text && size.tensors <= self.size.tensors {
            return Ok(self);
        }
        drop(self);
        answers.reserve(size)
    }

    /// The rendered answer, which keeps what it came to of the share until it is sent (or its connection is gone). The
    /// tensors must be gone by now.
    pub fn hold(mut self, body: Vec<u8>) -> Bytes {
        debug_assert!(body.len() as u64 <= self.size.text, "{} bytes in a share of {:?}", body.len(), self.size);
        let kept = (body.len() as u64).div_ceil(UNIT) as usize;
        drop(self.permit.split(self.permit.num_permits().saturating_sub(kept)));
        Bytes::from_owner(Held { body, _permit: self.permit })
    }
}

struct Held {
    body: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::writer;
    use crate::tensor::Data;

    fn spec(dtype: DType, shape: Vec<Dim>) -> OutputSpec {
        OutputSpec { name: "y".into(), dtype, shape, nan_allowed: false }
    }

    #[test]
    fn no_text_is_longer_than_its_bound() {
        let floats =
            [-f32::MIN_POSITIVE, f32::MAX, f32::MIN, f32::NAN, f32::from_bits(1), -f32::from_bits(0x007f_fffd)];
        let datas = [
            Data::Float32(floats.to_vec()),
            Data::Int64(vec![i64::MIN; 6]),
            Data::Int32(vec![i32::MIN; 6]),
            Data::Bool(vec![0; 6]),
        ];
        for data in datas {
            for shape in [vec![6], vec![6, 1], vec![1, 6], vec![2, 3], vec![1, 1, 6, 1, 1], vec![3, 2, 1]] {
                let tensor = Tensor { shape: shape.clone(), data: data.clone() };
                let mut out = Vec::new();
                writer::nested(&mut out, &tensor);
                assert!(
                    out.len() as u64 <= nested(tensor.dtype(), &shape),
                    "{shape:?} {}",
                    String::from_utf8_lossy(&out)
                );
            }
        }
        // Every exponent, with the most digits that a mantissa can ask for.
        for bits in (0..0x7f80_0000u32).step_by(4093) {
            let mut out = Vec::new();
            let value = -f32::from_bits(bits);
            writer::flat(&mut out, &Data::Float32(vec![value]));
            assert!(out.len() < 22, "{value}: {}", String::from_utf8_lossy(&out));
        }
        let mut out = Vec::new();
        writer::nested(&mut out, &Tensor { shape: vec![1000, 0], data: Data::Float32(vec![]) });
        assert!(out.len() as u64 <= nested(DType::Float32, &[1000, 0]));
    }

    #[test]
    fn the_size_is_known_before_the_run_unless_a_dimension_is_computed() {
        let symbols = Symbols::from([("batch", 10)]);
        let batch = || Dim::Symbol("batch".into());
        let outputs = [spec(DType::Float32, vec![batch(), Dim::Fixed(100)]), spec(DType::Int64, vec![batch()])];
        let both = [(0, Form::Json), (1, Form::Binary)];
        let size = expected(&outputs, &both, &symbols).unwrap();
        assert_eq!(size.tensors, 10 * 100 * 4 + 80);
        assert!(size.text >= 22_000 + 80);
        // Outputs that are not asked for are computed all the same, but never written.
        assert!(expected(&outputs, &[], &symbols).unwrap().text <= FRAME);
        let computed = [spec(DType::Float32, vec![Dim::Symbol("2*batch".into())])];
        assert_eq!(expected(&computed, &both, &symbols), None);
        let huge = [spec(DType::Int64, vec![Dim::Fixed(usize::MAX); 8])];
        assert_eq!(expected(&huge, &[(0, Form::Json)], &symbols).unwrap().text, u64::MAX);
    }

    #[test]
    fn shares_are_bounded_and_come_back_when_the_body_is_sent() {
        let answers = Answers::default();
        let refused = answers.reserve(Size { tensors: 0, text: MOST_ANSWER + 1 }).unwrap_err();
        assert_eq!(refused.reason, Reason::AnswerTooLarge);
        assert!(refused.message.contains("67108865") && refused.message.contains("67108864"));
        let largest = Size { tensors: MOST_ANSWER, text: MOST_ANSWER };
        let body = answers.reserve(largest).unwrap();
        assert!(!answers.were_short());
        assert_eq!(answers.reserve(Size { tensors: 0, text: SMALL_ANSWER + 1 }).unwrap_err().reason, Reason::Busy);
        assert_eq!([answers.were_short(), answers.were_short()], [true, false]);
        // Small answers have their own share.
        let small = answers.reserve(Size { tensors: 100, text: 1000 }).unwrap();
        assert_eq!(small.fit(&answers, Size { tensors: 100, text: 70_000 }).unwrap_err().reason, Reason::Busy);
        let body = body.hold(vec![1; 3000]);
        assert_eq!(answers.large.available_permits() as u64, LARGE_ANSWERS / UNIT - 3, "what was not needed came back");
        let part = body.slice(1..);
        drop(body);
        assert!(answers.reserve(largest).is_err(), "a part is still to be sent");
        drop(part);
        let share = answers.reserve(largest).unwrap();
        drop(share.fit(&answers, Size { tensors: 1, text: 1 }).unwrap());
        assert_eq!(answers.large.available_permits() as u64, LARGE_ANSWERS / UNIT);
        assert_eq!(answers.small.available_permits() as u64, SMALL_ANSWERS / UNIT);
    }
}
