//! `serve run`: one inference, no port.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Failure, Start, emit};
use crate::bundle::golden::Encoded as EncodedTensor;
use crate::cli::RunArguments;
use crate::engine::Inputs;
use crate::json::Reader;
use crate::json::tensor::read_nested;
use crate::model::{Served, Text};
use crate::npy::read_npy;
use crate::pool::Turn;
use crate::protocols::{native, tags};
use crate::refusal::Refusal;
use crate::tensor::{InputSpec, Tensor};

/// How long one inference from the command line may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// The id that its answer has.
const ID: &str = "run";

/// Runs the inputs of the arguments (or the native request on stdin) and prints the native answer.
pub fn run_one(start: &Start, arguments: &RunArguments) -> Result<(), Failure> {
    let metrics = start.metrics();
    let loaded = start.load(&metrics)?;
    let refused = |refusal: Refusal| Failure::usage(refusal.text());
    let model = match (&arguments.model, loaded.models.as_slice()) {
        (Some(name), _) => {
            loaded.model(name).ok_or_else(|| Failure::usage(format!("there is no model called {name:?}")))?
        }
        (None, [only]) => only,
        (None, _) => return Err(Failure::usage("the bundle has several models: name one with --model")),
    };
    let line = if !arguments.text.is_empty() {
        run_texts(model, &arguments.text)
    } else if arguments.inputs.is_empty() {
        run_stdin(model)?
    } else {
        answer(model, native::Asked::Tensors(file_inputs(model, &arguments.inputs)?))
    };
    let mut line = line.map_err(refused)?;
    line.push(b'\n');
    loaded.close();
    emit(&String::from_utf8_lossy(&line))
}

/// The native answer.
fn answer(model: &Served, asked: native::Asked) -> Result<Vec<u8>, Refusal> {
    let outputs = match asked {
        native::Asked::Tensors(inputs) => model.run_blocking(inputs)?,
        native::Asked::Texts(texts) => model.embed_blocking(texts)?,
        native::Asked::Tags(texts, wish) => return tags::answer_blocking(model, texts, &wish, ID),
    };
    native::render(model, &outputs, ID)
}

fn run_texts(model: &Served, texts: &[String]) -> Result<Vec<u8>, Refusal> {
    let texts = match model.texts() {
        // Two by two, as in `--text QUERY --text DOCUMENT`.
        [first, second] => {
            let pair = |two: &[String]| Text::Pair(two[0].as_str().into(), two[1].clone());
            match texts.chunks_exact(2) {
                pairs if pairs.remainder().is_empty() => pairs.map(pair).collect(),
                _ => {
                    let text = format!("the model takes pairs, {first} and {second}, and the last text is alone");
                    return Err(Refusal::invalid("--text", text));
                }
            }
        }
        _ => texts.iter().cloned().map(Text::Alone).collect(),
    };
    let texts = model.encode(texts, &Default::default(), &turn(), |index| format!("text[{index}]"))?;
    answer(model, native::Asked::of(model, texts, Default::default()))
}

fn turn() -> Turn {
    Turn::unbounded(Instant::now() + PATIENCE)
}

fn run_stdin(model: &Arc<Served>) -> Result<Result<Vec<u8>, Refusal>, Failure> {
    let mut body = String::new();
    std::io::stdin().read_to_string(&mut body).map_err(|e| Failure::usage(format!("stdin: {e}")))?;
    Ok(native::parse_for(model, &body, &turn()).and_then(|asked| answer(model, asked)))
}

fn file_inputs(model: &Served, arguments: &[String]) -> Result<Inputs, Failure> {
    let mut inputs: Inputs = vec![None; model.spec.inputs.len()];
    for argument in arguments {
        let Some((name, path)) = argument.split_once('=') else {
            return Err(Failure::usage(format!("--input {argument}: expected NAME=FILE")));
        };
        let Some(index) = model.input_index(name) else {
            let names: Vec<&str> = model.spec.inputs.iter().map(|i| i.name.as_str()).collect();
            return Err(Failure::usage(format!("there is no input {name:?}; the model takes {}", names.join(", "))));
        };
        let tensor = read_file(&model.spec.inputs[index], Path::new(path));
        inputs[index] = Some(tensor.map_err(|text| Failure::usage(format!("{path}: {text}")))?);
    }
    Ok(inputs)
}

/// A tensor from a file: `.npy`, or JSON (nested lists, or the object form of golden.json).
fn read_file(spec: &InputSpec, path: &Path) -> Result<Tensor, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    if path.extension().is_some_and(|e| e == "npy") {
        return read_npy(&bytes, spec.dtype);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8")?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str::<EncodedTensor>(text).map_err(|e| e.to_string())?.decode();
    }
    let mut reader = Reader::new(text);
    let tensor = read_nested(&mut reader, spec.dtype, &spec.shape).and_then(|t| reader.end().map(|()| t));
    tensor.map_err(|fault| Refusal::json(&spec.name, fault).text())
}
