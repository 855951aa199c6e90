//! NumPy's `.npy` files, versions 1 to 3 (NEP 1).

use crate::tensor::{DType, Data, Tensor, elements};

/// Reads a C-ordered little-endian array. float64 becomes float32 where the input is that (NumPy's default type);
/// any other difference of dtype is refused.
pub fn read_npy(bytes: &[u8], wanted: DType) -> Result<Tensor, String> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("it is not a .npy file")?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or("it is truncated")?;
    let (length, rest) = match version[0] {
        1 => rest.split_first_chunk::<2>().map(|(n, r)| (usize::from(u16::from_le_bytes(*n)), r)),
        2 | 3 => rest.split_first_chunk::<4>().map(|(n, r)| (u32::from_le_bytes(*n) as usize, r)),
        _ => return Err(format!("version {} of the format is not known", version[0])),
    }
    .ok_or("it is truncated")?;
    let (header, data) = rest.split_at_checked(length).ok_or("it is truncated")?;
    let header = std::str::from_utf8(header).map_err(|_| "its header is not text")?;
    let descr = field(header, "descr").ok_or("its header has no descr")?.trim_matches(['\'', '"']);
    if field(header, "fortran_order") == Some("True") {
        return Err("its order is Fortran's; save a C-ordered array".into());
    }
    let shape = field(header, "shape").ok_or("its header has no shape")?;
    let shape: Result<Vec<usize>, _> =
        shape.trim_matches(['(', ')']).split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::parse).collect();
    let shape = shape.map_err(|_| "its shape is not one of numbers")?;
    let data = match (descr, wanted) {
        ("<f4", DType::Float32) | ("<i8", DType::Int64) | ("<i4", DType::Int32) | ("|b1", DType::Bool) => {
            Data::from_le_bytes(wanted, data).ok_or("its data is no whole number of elements")?
        }
        ("<f8", DType::Float32) => {
            let (chunks, rest) = data.as_chunks::<8>();
            if !rest.is_empty() {
                return Err("its data is no whole number of elements".into());
            }
            Data::Float32(chunks.iter().map(|b| f64::from_le_bytes(*b) as f32).collect())
        }
        _ => return Err(format!("its dtype is {descr}; expected {}", wanted.name())),
    };
    if elements(&shape) != Some(data.len()) {
        return Err(format!("{} elements for shape {shape:?}", data.len()));
    }
    Ok(Tensor { shape, data })
}

/// The value of a key in the header's dict.
fn field<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let at = header.find(&format!("'{key}'"))? + key.len() + 2;
    let rest = header[at..].trim_start().strip_prefix(':')?.trim_start();
    let end = if rest.starts_with('(') { rest.find(')')? + 1 } else { rest.find([',', '}'])? };
    Some(rest[..end].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend((header.len() as u16).to_le_bytes());
        out.extend(header.as_bytes());
        out.extend(data);
        out
    }

    #[test]
    fn arrays_are_read_and_wrong_ones_named() {
        let file = npy("<i8", "(1, 2)", &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        let tensor = read_npy(&file, DType::Int64).unwrap();
        assert_eq!((tensor.shape, tensor.data), (vec![1, 2], Data::Int64(vec![1, 2])));
        assert_eq!(
            read_npy(&npy("<f8", "(1,)", &1.5f64.to_le_bytes()), DType::Float32).unwrap().data,
            Data::Float32(vec![1.5])
        );
        assert!(read_npy(&file, DType::Float32).unwrap_err().contains("<i8; expected float32"));
        assert!(read_npy(&npy("<i4", "(3,)", &[0; 4]), DType::Int32).unwrap_err().contains("1 elements for shape"));
        assert!(read_npy(b"PK", DType::Int32).is_err());
        for cut in 0..file.len() {
            assert!(read_npy(&file[..cut], DType::Int64).is_err());
        }
    }
}
