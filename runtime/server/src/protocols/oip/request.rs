//! A request's body: JSON, and bytes behind it where the extension is used.

use bytes::Bytes;

use super::super::call::utf8;
use super::super::native::{MOST_TEXTS, named_string, read_id, read_texts, too_many_texts, within};
use super::super::once::Once;
use super::super::texts::pairs;
use crate::engine::Inputs;
use crate::json::tensor::read_nested;
use crate::json::{Fault, Reader};
use crate::model::{Encoded, Served, Text};
use crate::pool::Turn;
use crate::refusal::Refusal;
use crate::tensor::{Data, Dim, InputSpec, MAX_RANK, Tensor, elements, shape_text};

/// A request as it stands in the body.
#[derive(Default)]
struct Asked<'a> {
    id: Option<String>,
    inputs: Vec<Given<'a>>,
    /// The outputs that are wanted; all where none are named.
    outputs: Vec<Given<'a>>,
    /// Whether outputs are wanted as bytes, where they do not say it themselves.
    binary_output: bool,
}

#[derive(Default)]
struct Given<'a> {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    data: Option<&'a str>,
    /// `parameters.binary_data_size`: the bytes that follow the JSON.
    binary_size: Option<usize>,
    /// `parameters.binary_data`: whether an output is wanted as bytes.
    binary: Option<bool>,
    bytes: Option<&'a [u8]>,
}

pub enum Parsed {
    Tensors(Inputs),
    Texts(Encoded),
}

pub type WithId<T> = (Option<String>, Result<T, Refusal>);

/// An output that is wanted: its index, and whether as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub index: usize,
    pub binary: bool,
}

/// The request's id, its inputs, and the outputs that it wants. `json_bytes`: where bytes of tensors begin.
pub fn parse(model: &Served, body: &Bytes, json_bytes: Option<usize>, turn: &Turn) -> WithId<(Parsed, Vec<Wanted>)> {
    let read = split(body, json_bytes).and_then(|(json, tail)| {
        let mut asked = read_request(model, utf8(json)?).map_err(|fault| Refusal::json("", fault))?;
        hand_out(&mut asked.inputs, tail)?;
        Ok(asked)
    });
    let asked = match read {
        Ok(asked) => asked,
        Err(refusal) => return (None, Err(refusal)),
    };
    let wanted = wanted_outputs(model, &asked);
    let inputs = if model.is_text() {
        take_texts(model, &asked.inputs, turn).map(Parsed::Texts)
    } else {
        take_tensors(model, &asked.inputs).map(Parsed::Tensors)
    };
    (asked.id, inputs.and_then(|inputs| Ok((inputs, wanted?))))
}

fn split(body: &[u8], json_bytes: Option<usize>) -> Result<(&[u8], &[u8]), Refusal> {
    let at = json_bytes.unwrap_or(body.len());
    body.split_at_checked(at).ok_or_else(|| {
        Refusal::malformed(format!("the JSON is said to have {at} bytes and the body has {}", body.len()))
    })
}

/// Gives each input that announced bytes its share, in order.
fn hand_out<'a>(inputs: &mut [Given<'a>], mut tail: &'a [u8]) -> Result<(), Refusal> {
    for input in inputs {
        let Some(size) = input.binary_size else { continue };
        let (bytes, rest) = tail.split_at_checked(size).ok_or_else(|| {
            Refusal::invalid(input.name.as_str(), format!("{size} bytes are announced and {} are there", tail.len()))
        })?;
        (input.bytes, tail) = (Some(bytes), rest);
    }
    if tail.is_empty() { Ok(()) } else { Err(Refusal::malformed(format!("{} bytes belong to no tensor", tail.len()))) }
}

/// Reads the request. Tensors that the model does not have, and those that are named a second time, are refused as soon
/// as they are read, so that a request takes no more memory than the model has inputs and outputs.
fn read_request<'a>(model: &Served, body: &'a str) -> Result<Asked<'a>, Fault> {
    let mut asked = Asked::default();
    let mut once = Once::default();
    let mut seen_inputs = false;
    let mut reader = Reader::new(body);
    reader.object(|reader, key| {
        once.take(&["id", "inputs", "outputs", "parameters"], &key, "")?;
        match &*key {
            "id" => asked.id = Some(read_id(reader)?),
            "inputs" => {
                seen_inputs = true;
                list_of(reader, "inputs", |reader, index| {
                    let given = read_given(reader).map_err(|f| within(&format!("inputs[{index}]"), f))?;
                    check_input(model, &given.name)?;
                    push_once(&mut asked.inputs, given, "the input is given twice")
                })?;
            }
            "parameters" => asked.binary_output = read_parameters(reader)?.output.unwrap_or(false),
            "outputs" => {
                list_of(reader, "outputs", |reader, index| {
                    let given = read_given(reader).map_err(|f| within(&format!("outputs[{index}]"), f))?;
                    check_output(model, &given.name)?;
                    push_once(&mut asked.outputs, given, "the output is asked for twice")
                })?;
            }
            _ => drop(reader.skip()?),
        }
        Ok(())
    })?;
    reader.end()?;
    if !seen_inputs {
        return Err(Fault::Value {
            path: "inputs".into(),
            message: "the field is missing; expected a list of tensors".into(),
        });
    }
    Ok(asked)
}

/// Appends the tensor unless its name is there already; the list is never longer than the model's own.
fn push_once<'a>(list: &mut Vec<Given<'a>>, given: Given<'a>, message: &str) -> Result<(), Fault> {
    if list.iter().any(|other| other.name == given.name) {
        return Err(Fault::Value { path: given.name, message: message.into() });
    }
    list.push(given);
    Ok(())
}

fn check_input(model: &Served, name: &str) -> Result<(), Fault> {
    check_name(&model.input_names(), name, "there is no such input; the model takes")
}

fn check_output(model: &Served, name: &str) -> Result<(), Fault> {
    let names: Vec<&str> = model.spec.outputs.iter().map(|o| o.name.as_str()).collect();
    check_name(&names, name, "there is no such output; the model gives")
}

fn check_name(names: &[&str], name: &str, text: &str) -> Result<(), Fault> {
    if names.contains(&name) {
        return Ok(());
    }
    Err(Fault::Value { path: name.chars().take(64).collect(), message: format!("{text} {}", names.join(", ")) })
}

fn list_of<'a>(
    reader: &mut Reader<'a>,
    name: &str,
    item: impl FnMut(&mut Reader<'a>, usize) -> Result<(), Fault>,
) -> Result<(), Fault> {
    if reader.peek() != Some(b'[') {
        return Err(Fault::Value { path: name.into(), message: format!("expected a list, got {}", reader.kind()) });
    }
    reader.array(item)
}

fn read_given<'a>(reader: &mut Reader<'a>) -> Result<Given<'a>, Fault> {
    if reader.peek() != Some(b'{') {
        return Err(Fault::value(format!("expected an object, got {}", reader.kind())));
    }
    let mut given = Given::default();
    let mut once = Once::default();
    reader.object(|reader, key| {
        once.take(&["name", "datatype", "shape", "data", "parameters"], &key, ".")?;
        match &*key {
            "name" => given.name = named_string(reader, ".name")?.into_owned(),
            "datatype" => given.datatype = named_string(reader, ".datatype")?.into_owned(),
            "shape" => list_of(reader, ".shape", |reader, index| {
                let number = reader.number()?.int.filter(|n| *n >= 0);
                let path = format!(".shape[{index}]");
                let fault = Fault::Value { path, message: "expected a whole number of 0 or more".into() };
                given.shape.push(number.ok_or(fault)?);
                if given.shape.len() > MAX_RANK {
                    let message = format!("more than {MAX_RANK} dimensions");
                    return Err(Fault::Value { path: ".shape".into(), message });
                }
                Ok(())
            })?,
            "data" => given.data = Some(reader.skip()?),
            "parameters" => {
                let parameters = read_parameters(reader)?;
                (given.binary_size, given.binary) = (parameters.size, parameters.binary);
            }
            _ => drop(reader.skip()?),
        }
        Ok(())
    })?;
    if given.name.is_empty() {
        return Err(Fault::Value { path: ".name".into(), message: "the tensor has no name".into() });
    }
    Ok(given)
}

/// The parameters that are known; others are passed over.
#[derive(Default)]
struct Parameters {
    size: Option<usize>,
    binary: Option<bool>,
    output: Option<bool>,
}

fn read_parameters(reader: &mut Reader) -> Result<Parameters, Fault> {
    let mut found = Parameters::default();
    if reader.null() {
        return Ok(found);
    }
    let flag = |reader: &mut Reader, path: &str| match reader.peek() {
        Some(b't' | b'f') => reader.boolean(),
        _ => Err(Fault::Value { path: path.into(), message: "expected true or false".into() }),
    };
    let mut once = Once::default();
    reader.object(|reader, key| {
        once.take(&["binary_data_size", "binary_data", "binary_data_output"], &key, ".parameters.")?;
        match &*key {
            "binary_data_size" => {
                let number = match reader.peek() {
                    Some(b'0'..=b'9') => reader.number()?.int.and_then(|n| usize::try_from(n).ok()),
                    _ => None,
                };
                let path = ".parameters.binary_data_size".into();
                found.size = Some(number.ok_or(Fault::Value { path, message: "expected a number of bytes".into() })?);
            }
            "binary_data" => found.binary = Some(flag(reader, ".parameters.binary_data")?),
            "binary_data_output" => found.output = Some(flag(reader, "parameters.binary_data_output")?),
            _ => drop(reader.skip()?),
        }
        Ok(())
    })?;
    Ok(found)
}

fn take_tensors(model: &Served, given: &[Given]) -> Result<Inputs, Refusal> {
    let mut inputs: Inputs = vec![None; model.spec.inputs.len()];
    for tensor in given {
        // Names were checked when they were read.
        let index = model.input_index(&tensor.name).ok_or_else(Refusal::internal)?;
        inputs[index] = Some(take_tensor(&model.spec.inputs[index], tensor)?);
    }
    Ok(inputs)
}

fn take_tensor(spec: &InputSpec, given: &Given) -> Result<Tensor, Refusal> {
    let refuse = |text: String| Err(Refusal::invalid(&spec.name, text));
    if given.datatype != spec.dtype.oip_name() {
        return refuse(format!("expected datatype {}, got {:?}", spec.dtype.oip_name(), given.datatype));
    }
    if let Some(bytes) = given.bytes {
        return take_bytes(spec, given, bytes);
    }
    let Some(data) = given.data else { return refuse("the tensor has no data".into()) };
    let shape: Option<Vec<usize>> = given.shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    let count = shape.as_deref().and_then(elements);
    // Flat or nested: both are rows after rows.
    let mut reader = Reader::new(data);
    let nested = reader.clone().eat(b'[') && {
        let mut inside = reader.clone();
        inside.eat(b'[') && inside.peek() == Some(b'[')
    };
    let flat = [Dim::Symbol("n".into())];
    let read = if nested {
        read_nested(&mut reader, spec.dtype, &spec.shape)
    } else {
        read_nested(&mut reader, spec.dtype, &flat)
    };
    let tensor = read.map_err(|fault| Refusal::json(&spec.name, fault))?;
    match (shape, count) {
        (Some(shape), Some(count)) if count == tensor.data.len() && (!nested || tensor.shape == shape) => {
            Ok(Tensor { shape, data: tensor.data })
        }
        _ => refuse(format!("the shape is {} and the data has {} values", shape_text(&given.shape), tensor.data.len())),
    }
}

fn take_bytes(spec: &InputSpec, given: &Given, bytes: &[u8]) -> Result<Tensor, Refusal> {
    let shape: Option<Vec<usize>> = given.shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    let expected = shape.as_deref().and_then(elements).and_then(|n| n.checked_mul(spec.dtype.size()));
    match (shape, Data::from_le_bytes(spec.dtype, bytes)) {
        (Some(shape), Some(data)) if expected == Some(bytes.len()) => Ok(Tensor { shape, data }),
        _ => {
            let shape = shape_text(&given.shape);
            let text = format!("{} bytes are no {} tensor of shape {shape}", bytes.len(), spec.dtype.name());
            Err(Refusal::invalid(&spec.name, text))
        }
    }
}

/// Texts as the extension packs BYTES: a 4-byte little-endian length, then the bytes, each.
pub fn unpack_texts(name: &str, mut bytes: &[u8]) -> Result<Vec<String>, Refusal> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        if texts.len() == MOST_TEXTS {
            return Err(Refusal::invalid(name, too_many_texts()));
        }
        let field = || format!("{name}[{}]", texts.len());
        let element = bytes
            .split_first_chunk::<4>()
            .and_then(|(length, rest)| rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?));
        let Some((text, rest)) = element else {
            return Err(Refusal::invalid(field(), "the bytes end within an element"));
        };
        let text = std::str::from_utf8(text).map_err(|_| Refusal::invalid(field(), "the text is not UTF-8"))?;
        texts.push(text.to_owned());
        bytes = rest;
    }
    Ok(texts)
}

fn take_texts(model: &Served, given: &[Given], turn: &Turn) -> Result<Encoded, Refusal> {
    let names = model.texts();
    let mut lists = Vec::with_capacity(names.len());
    for name in names {
        let missing = || Refusal::invalid(name, "the input is missing; expected a tensor of datatype BYTES");
        lists.push(take_list(name, given.iter().find(|g| g.name == *name).ok_or_else(missing)?)?);
    }
    let second = lists.split_off(lists.len().min(1));
    let first = lists.pop().ok_or_else(Refusal::internal)?;
    let texts = match second.into_iter().next() {
        None => first.into_iter().map(Text::Alone).collect(),
        Some(second) => pairs(names, first, second)?,
    };
    let last = names.last().map_or("text", String::as_str);
    model.encode(texts, &Default::default(), turn, |index| format!("{last}[{index}]"))
}

fn take_list(name: &str, given: &Given) -> Result<Vec<String>, Refusal> {
    if given.datatype != "BYTES" {
        return Err(Refusal::invalid(name, format!("expected datatype BYTES, got {:?}", given.datatype)));
    }
    let texts = match (given.bytes, given.data) {
        (Some(bytes), _) => unpack_texts(name, bytes)?,
        (None, Some(data)) => read_texts(&mut Reader::new(data), name).map_err(|fault| Refusal::json("", fault))?,
        (None, None) => return Err(Refusal::invalid(name, "the tensor has no data")),
    };
    if given.shape.iter().try_fold(1i64, |n, d| n.checked_mul(*d)) != i64::try_from(texts.len()).ok() {
        let text = format!("the shape is {} and the data has {} texts", shape_text(&given.shape), texts.len());
        return Err(Refusal::invalid(name, text));
    }
    Ok(texts)
}

fn wanted_outputs(model: &Served, asked: &Asked) -> Result<Vec<Wanted>, Refusal> {
    let all = &model.spec.outputs;
    if asked.outputs.is_empty() {
        return Ok((0..all.len()).map(|index| Wanted { index, binary: asked.binary_output }).collect());
    }
    let find = |given: &Given| {
        let index = all.iter().position(|o| o.name == given.name).ok_or_else(Refusal::internal)?;
        Ok(Wanted { index, binary: given.binary.unwrap_or(asked.binary_output) })
    };
    asked.outputs.iter().map(find).collect()
}
