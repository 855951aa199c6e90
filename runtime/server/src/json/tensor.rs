//! Nested lists of numbers → tensor, in one pass and without a tree between.

use super::reader::{Fault, Number, Reader};
use crate::tensor::{DType, Data, Dim, MAX_RANK, Tensor};

/// Reads nested lists (`[[1, 2], [3, 4]]`) into a tensor of `dtype`.
///
/// `spec` is the declared shape: it gives an empty list its rank, and lets a wrong one be named early.
/// Faults carry the path below the tensor's name: `[1][3]`.
pub fn read_nested(reader: &mut Reader, dtype: DType, spec: &[Dim]) -> Result<Tensor, Fault> {
    let mut shape = Shape::new(spec);
    let data = match dtype {
        DType::Float32 => Data::Float32(fill(reader, &mut shape, float32)?),
        DType::Int64 => Data::Int64(fill(reader, &mut shape, int64)?),
        DType::Int32 => Data::Int32(fill(reader, &mut shape, int32)?),
        DType::Bool => Data::Bool(fill(reader, &mut shape, boolean)?),
    };
    Ok(Tensor { shape: shape.finish(), data })
}

fn fill<T>(
    reader: &mut Reader,
    shape: &mut Shape,
    element: fn(&mut Reader) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut out = Vec::new();
    if shape.spec.is_empty() {
        out.push(element(reader)?);
        shape.rank = Some(0);
    } else if reader.peek() == Some(b'[') {
        list(reader, shape, 0, &mut out, element).map_err(|fault| shape.locate(fault))?;
    } else {
        let kind = reader.kind();
        reader.skip()?;
        return Err(Fault::value(format!("expected a list, got {kind}")));
    }
    Ok(out)
}

fn list<T>(
    reader: &mut Reader,
    shape: &mut Shape,
    depth: usize,
    out: &mut Vec<T>,
    element: fn(&mut Reader) -> Result<T, Fault>,
) -> Result<(), Fault> {
    let mut count = 0;
    reader.array(|reader, index| {
        shape.index[depth] = index;
        shape.depth = depth + 1;
        if reader.peek() == Some(b'[') {
            shape.enter(depth)?;
            list(reader, shape, depth + 1, out, element)?;
        } else {
            shape.leaf(reader, depth)?;
            out.push(element(reader)?);
        }
        count = index + 1;
        Ok(())
    })?;
    shape.close(depth, count)
}

/// The shape as far as it is known while lists are read.
struct Shape<'a> {
    spec: &'a [Dim],
    rank: Option<usize>,
    dims: [Option<usize>; MAX_RANK],
    index: [usize; MAX_RANK],
    depth: usize,
}

impl<'a> Shape<'a> {
    fn new(spec: &'a [Dim]) -> Self {
        Shape { spec, rank: None, dims: [None; MAX_RANK], index: [0; MAX_RANK], depth: 0 }
    }

    /// A list begins inside the list at `depth`.
    fn enter(&mut self, depth: usize) -> Result<(), Fault> {
        if self.rank.is_some_and(|rank| depth + 1 >= rank) || depth + 1 >= self.spec.len() {
            return Err(Fault::value(format!("expected a value, got a list: {}", self.expectation())));
        }
        Ok(())
    }

    /// A value stands in the list at `depth`.
    fn leaf(&mut self, reader: &mut Reader, depth: usize) -> Result<(), Fault> {
        if depth + 1 < self.spec.len() {
            return Err(Fault::value(format!("expected a list, got {}: {}", reader.kind(), self.expectation())));
        }
        self.rank = Some(depth + 1);
        Ok(())
    }

    fn close(&mut self, depth: usize, count: usize) -> Result<(), Fault> {
        self.depth = depth;
        match self.dims[depth] {
            None => self.dims[depth] = Some(count),
            Some(known) if known == count => {}
            Some(known) => {
                let message = format!("{count} values where the lists before have {known}");
                return Err(Fault::value(message));
            }
        }
        Ok(())
    }

    fn expectation(&self) -> String {
        format!("the shape is {}", crate::tensor::shape_text(self.spec))
    }

    fn locate(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Value { message, .. } => {
                let path = self.index[..self.depth].iter().map(|i| format!("[{i}]")).collect();
                Fault::Value { path, message }
            }
            syntax => syntax,
        }
    }

    /// The shape; dimensions below an empty list are the declared ones, or 0.
    fn finish(&self) -> Vec<usize> {
        let rank = self.rank.unwrap_or(self.spec.len());
        (0..rank)
            .map(|i| match (self.dims[i], &self.spec[i]) {
                (Some(n), _) => n,
                (None, Dim::Fixed(n)) => *n,
                (None, Dim::Symbol(_)) => 0,
            })
            .collect()
    }
}

fn number(reader: &mut Reader, expected: &str) -> Result<Number, Fault> {
    match reader.peek() {
        Some(b'"' | b'{' | b'[' | b't' | b'f' | b'n') => {
            Err(Fault::value(format!("expected {expected}, got {}", reader.kind())))
        }
        _ => reader.number(),
    }
}

/// The nearest float32 of the nearest float64, as NumPy gives for a Python float.
fn float32(reader: &mut Reader) -> Result<f32, Fault> {
    Ok(number(reader, "float32")?.float as f32)
}

fn int64(reader: &mut Reader) -> Result<i64, Fault> {
    let number = number(reader, "int64")?;
    number.int.ok_or_else(|| not_integer("int64", number))
}

fn int32(reader: &mut Reader) -> Result<i32, Fault> {
    let number = number(reader, "int32")?;
    number.int.and_then(|n| i32::try_from(n).ok()).ok_or_else(|| not_integer("int32", number))
}

fn not_integer(dtype: &str, number: Number) -> Fault {
    if number.integral {
        Fault::value(format!("expected {dtype}, got {:e}, which it cannot hold", number.float))
    } else {
        Fault::value(format!("expected {dtype}, got the fraction or exponent form {:?}", number.float))
    }
}

fn boolean(reader: &mut Reader) -> Result<u8, Fault> {
    match reader.peek() {
        Some(b't' | b'f') => Ok(u8::from(reader.boolean()?)),
        _ => match number(reader, "bool")?.int {
            Some(value @ (0 | 1)) => Ok(value as u8),
            _ => Err(Fault::value("expected bool: true, false, 0 or 1")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dims: &[usize]) -> Vec<Dim> {
        dims.iter().map(|d| if *d == 0 { Dim::Symbol("n".into()) } else { Dim::Fixed(*d) }).collect()
    }

    fn read(text: &str, dtype: DType, dims: &[usize]) -> Result<Tensor, Fault> {
        read_nested(&mut Reader::new(text), dtype, &spec(dims))
    }

    fn path_of(fault: Fault) -> String {
        match fault {
            Fault::Value { path, .. } => path,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nested_lists_give_shape_and_row_major_data() {
        let tensor = read("[[1, 2.5, -3], [4e0, 5, 6]]", DType::Float32, &[0, 3]).unwrap();
        assert_eq!(tensor.shape, [2, 3]);
        assert_eq!(tensor.data, Data::Float32(vec![1.0, 2.5, -3.0, 4.0, 5.0, 6.0]));
    }

    #[test]
    fn an_empty_list_has_zero_rows_of_the_declared_shape() {
        assert_eq!(read("[]", DType::Float32, &[0, 64]).unwrap().shape, [0, 64]);
        assert_eq!(read("[[], []]", DType::Int64, &[0, 0]).unwrap().shape, [2, 0]);
    }

    #[test]
    fn faults_name_the_place() {
        assert_eq!(path_of(read("[[1, 2], [3]]", DType::Int64, &[0, 0]).unwrap_err()), "[1]");
        assert_eq!(path_of(read("[[1, 2], [3, \"x\"]]", DType::Int64, &[0, 0]).unwrap_err()), "[1][1]");
        assert_eq!(path_of(read("[[1, 2], [3, 1.5]]", DType::Int64, &[0, 0]).unwrap_err()), "[1][1]");
        assert_eq!(path_of(read("[1, 2]", DType::Int64, &[0, 0]).unwrap_err()), "[0]");
        assert_eq!(path_of(read("[[[1]]]", DType::Int64, &[0, 0]).unwrap_err()), "[0][0]");
        assert_eq!(path_of(read("7", DType::Int64, &[0, 0]).unwrap_err()), "");
    }

    #[test]
    fn dtypes_are_strict() {
        assert!(read("[3000000000]", DType::Int32, &[0]).is_err());
        assert!(read("[9223372036854775808]", DType::Int64, &[0]).is_err());
        assert!(read("[2]", DType::Bool, &[0]).is_err());
        assert!(read("[null]", DType::Float32, &[0]).is_err());
        assert_eq!(read("[true, 0]", DType::Bool, &[0]).unwrap().data, Data::Bool(vec![1, 0]));
    }

    #[test]
    fn mutated_documents_are_read_or_refused_and_never_panic() {
        let seeds = [
            r#"[[1, 2.5e-3, -0], [NaN, -Infinity, 4]]"#,
            r#"[["a\u00e9\ud83d\ude00", true], [null, {"k": []}]]"#,
            "[[],[]]",
        ];
        let bytes = br#"[]{}",:.0123456789eE+-aNIu\ tfn"#;
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for round in 0..30_000 {
            let mut text = seeds[round % seeds.len()].as_bytes().to_vec();
            for _ in 0..=next(4) {
                let at = next(text.len());
                match next(3) {
                    0 => text[at] = bytes[next(bytes.len())],
                    1 => text.insert(at, bytes[next(bytes.len())]),
                    _ => text.truncate(at.max(1)),
                }
            }
            let text = String::from_utf8(text).unwrap();
            for dtype in [DType::Float32, DType::Int64, DType::Int32, DType::Bool] {
                if let Ok(tensor) = read(&text, dtype, &[0, 3]) {
                    assert_eq!(crate::tensor::elements(&tensor.shape), Some(tensor.data.len()), "{text}");
                }
            }
            if let Ok(value) = Reader::new(&text).skip() {
                assert!(text.trim_start().starts_with(value));
            }
        }
    }

    #[test]
    fn a_scalar_is_a_bare_value() {
        assert_eq!(read("2.5", DType::Float32, &[]).unwrap().shape, Vec::<usize>::new());
    }
}
