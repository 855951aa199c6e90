//! An answer's body.

use super::request::Wanted;
use crate::json::writer;
use crate::model::Served;
use crate::tensor::Tensor;

pub struct Rendered {
    pub body: Vec<u8>,
    /// How many bytes of the body are JSON, where tensors follow as bytes.
    pub json_bytes: Option<usize>,
}

pub fn render(model: &Served, outputs: &[Tensor], wanted: &[Wanted], id: Option<&str>) -> Rendered {
    let tail: usize = wanted.iter().filter(|w| w.binary).map(|w| outputs[w.index].data.bytes()).sum();
    let mut out = Vec::with_capacity(512 + tail);
    out.extend_from_slice(b"{\"model_name\":");
    writer::string(&mut out, &model.spec.name);
    out.extend_from_slice(b",\"model_version\":");
    writer::string(&mut out, &model.spec.version);
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        writer::string(&mut out, id);
    }
    out.extend_from_slice(b",\"outputs\":[");
    for (position, wanted) in wanted.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        render_output(&mut out, &model.spec.outputs[wanted.index].name, &outputs[wanted.index], wanted.binary);
    }
    out.extend_from_slice(b"]}");
    let json_bytes = wanted.iter().any(|w| w.binary).then_some(out.len());
    for wanted in wanted.iter().filter(|w| w.binary) {
        outputs[wanted.index].data.write_le_bytes(&mut out);
    }
    Rendered { body: out, json_bytes }
}

fn render_output(out: &mut Vec<u8>, name: &str, tensor: &Tensor, binary: bool) {
    out.extend_from_slice(b"{\"name\":");
    writer::string(out, name);
    out.extend_from_slice(b",\"datatype\":");
    writer::string(out, tensor.dtype().oip_name());
    out.extend_from_slice(b",\"shape\":[");
    for (axis, size) in tensor.shape.iter().enumerate() {
        if axis > 0 {
            out.push(b',');
        }
        writer::integer(out, *size as u64);
    }
    if binary {
        out.extend_from_slice(b"],\"parameters\":{\"binary_data_size\":");
        writer::integer(out, tensor.data.bytes() as u64);
        out.extend_from_slice(b"}}");
    } else {
        out.extend_from_slice(b"],\"data\":");
        writer::flat(out, &tensor.data);
        out.push(b'}');
    }
}
