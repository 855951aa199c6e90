//! A `model.so` behind the [`Engine`] trait.

use std::ffi::{CStr, c_int, c_void};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::Arc;

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW, Symbol};
use memmap2::MmapMut;

use super::abi;
use super::mapped::Mapped;
use crate::engine::{Engine, Fault, FaultKind, Inputs, Limits};
use crate::tensor::{DType, Data, MAX_RANK, Tensor, elements};

/// The loaded library: its functions, and the handle that keeps them valid.
pub struct Library {
    describe: abi::Describe,
    open: abi::Open,
    close: abi::Close,
    context_open: abi::ContextOpen,
    context_close: abi::ContextClose,
    workspace: abi::Workspace,
    output_shapes: abi::OutputShapes,
    run: abi::Run,
    _handle: Handle,
    /// Open as long as the library: the loader knows a library by the path it was loaded from, which is this
    /// descriptor's number, so no other file may have that number meanwhile.
    _file: Arc<Mapped>,
}

impl Library {
    /// Loads the library from its open file, with all its symbols resolved and kept to itself. `path` is where the file
    /// was opened: of use only without /proc, the one way in which Linux lets a descriptor be loaded.
    pub fn load(file: Arc<Mapped>, path: &Path) -> Result<Self, String> {
        let descriptor = PathBuf::from(format!("/proc/self/fd/{}", file.descriptor()));
        let path = if descriptor.exists() { descriptor } else { same_file(&file, path)? };
        // SAFETY: the file's digest was checked before; generated libraries have no constructors.
        let handle = unsafe { Handle::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }.map_err(|e| reason(&e))?;
        // SAFETY: the types are those of the header, whose version is checked before any other call.
        unsafe {
            let version: abi::AbiVersion = function(&handle, "infc_abi_version")?;
            let found = version();
            if found != abi::VERSION {
                return Err(format!("its ABI version is {found}, and this server knows version {}", abi::VERSION));
            }
            Ok(Library {
                describe: function(&handle, "infc_describe")?,
                open: function(&handle, "infc_open")?,
                close: function(&handle, "infc_close")?,
                context_open: function(&handle, "infc_context_open")?,
                context_close: function(&handle, "infc_context_close")?,
                workspace: function(&handle, "infc_workspace")?,
                output_shapes: function(&handle, "infc_output_shapes")?,
                run: function(&handle, "infc_run")?,
                _handle: handle,
                _file: file,
            })
        }
    }

    /// The JSON of `infc_describe`.
    pub fn describe(&self) -> Result<String, String> {
        // SAFETY: the ABI says: a static string, valid while the library is loaded.
        let text = unsafe {
            let text = (self.describe)();
            if text.is_null() {
                return Err("infc_describe gives nothing".into());
            }
            CStr::from_ptr(text)
        };
        text.to_str().map(str::to_owned).map_err(|_| "infc_describe is not UTF-8".into())
    }
}

/// The path, if it still leads to the open file.
fn same_file(file: &Mapped, path: &Path) -> Result<PathBuf, String> {
    crate::log::warning(&format!("there is no /proc: {} is loaded by its name", path.display()));
    let found = std::fs::symlink_metadata(path).map_err(|e| e.to_string())?;
    let open = file.identity().map_err(|e| e.to_string())?;
    if (found.dev(), found.ino()) == open { Ok(path.to_owned()) } else { Err("it was replaced meanwhile".into()) }
}

/// The loader's own words.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// # Safety
/// `T` is the function's type.
unsafe fn function<T: Copy>(handle: &Handle, name: &str) -> Result<T, String> {
    // SAFETY: the caller's promise.
    let symbol: Result<Symbol<T>, _> = unsafe { handle.get(name.as_bytes()) };
    symbol.map(|s| *s).map_err(|_| format!("it lacks the function {name}"))
}

/// Where a model without weights points: aligned as the header asks.
#[repr(align(64))]
struct Aligned;
static NO_WEIGHTS: Aligned = Aligned;

/// An open model: shared by contexts, closed with the last of them.
pub struct Model {
    raw: *mut abi::Model,
    inputs: usize,
    outputs: Vec<DType>,
    library: Library,
    _weights: Arc<Mapped>,
}

// SAFETY: the ABI says that its functions are safe to call from several threads on different contexts.
unsafe impl Send for Model {}
// SAFETY: as above; only functions that take a const model are called on a shared one.
unsafe impl Sync for Model {}

impl Model {
    /// Opens the model on mapped weights. `inputs` and `outputs` are those of the library's own `describe`.
    pub fn open(library: Library, weights: Arc<Mapped>, inputs: usize, outputs: Vec<DType>) -> Result<Self, Fault> {
        let bytes = weights.bytes();
        let args = abi::OpenArgs {
            size: size_of::<abi::OpenArgs>() as u32,
            reserved: 0,
            weights: if bytes.is_empty() { (&raw const NO_WEIGHTS).cast() } else { bytes.as_ptr().cast() },
            weights_bytes: bytes.len() as u64,
        };
        let mut raw = null_mut();
        let mut error = abi::Error::new();
        // SAFETY: the structs are those of the header; the weights live as long as the model.
        let kind = unsafe { (library.open)(&args, &mut raw, &mut error) };
        check(kind, &error)?;
        if raw.is_null() {
            return Err(Fault::internal("infc_open gave no model"));
        }
        Ok(Model { raw, inputs, outputs, library, _weights: weights })
    }

    /// Bytes of the workspace that batches within `limits` need.
    pub fn workspace_bytes(&self, limits: Limits) -> Result<u64, Fault> {
        let whole = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let args = abi::Limits {
            size: size_of::<abi::Limits>() as u32,
            requests: whole(limits.requests),
            rows: limits.rows as u64,
            tokens: limits.tokens as u64,
            longest: limits.longest as u64,
        };
        let mut bytes = 0u64;
        let mut error = abi::Error::new();
        // SAFETY: the structs are those of the header.
        let kind = unsafe { (self.library.workspace)(self.raw, &args, &mut bytes, &mut error) };
        check(kind, &error)?;
        Ok(bytes)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: contexts hold the model, so none is left; it is closed once.
        unsafe { (self.library.close)(self.raw) }
    }
}

/// One context with its workspace: runs one batch at a time.
pub struct NativeEngine {
    raw: *mut abi::Context,
    workspace: MmapMut,
    limits: Limits,
    tensors: Vec<abi::Tensor>,
    results: Vec<abi::Tensor>,
    status: Vec<abi::Error>,
    model: Arc<Model>,
}

// SAFETY: a context may move between threads as long as one uses it at a time, which &mut self ensures.
unsafe impl Send for NativeEngine {}

impl NativeEngine {
    /// Opens a context on the calling thread, with a workspace for batches within `limits`.
    pub fn open(model: Arc<Model>, threads: usize, cpus: Option<&[i32]>, limits: Limits) -> Result<Self, Fault> {
        let bytes = model.workspace_bytes(limits)?;
        // Anonymous pages come zeroed, page-aligned, and take memory only once they are touched.
        let workspace = MmapMut::map_anon(usize::try_from(bytes).unwrap_or(usize::MAX).max(64)).map_err(|e| Fault {
            kind: FaultKind::Capacity,
            ..Fault::internal(format!("a workspace of {bytes} bytes: {e}"))
        })?;
        let args = abi::ContextArgs {
            size: size_of::<abi::ContextArgs>() as u32,
            threads: threads as u32,
            cpus: cpus.map_or(null(), <[i32]>::as_ptr),
            n_cpus: cpus.map_or(0, <[i32]>::len) as u32,
            reserved: 0,
        };
        let mut raw = null_mut();
        let mut error = abi::Error::new();
        // SAFETY: the structs are those of the header; the model outlives the context, which holds it.
        let kind = unsafe { (model.library.context_open)(model.raw, &args, &mut raw, &mut error) };
        check(kind, &error)?;
        if raw.is_null() {
            return Err(Fault::internal("infc_context_open gave no context"));
        }
        Ok(NativeEngine { raw, workspace, limits, tensors: vec![], results: vec![], status: vec![], model })
    }

    /// Checks one request by the model's own rules and allocates its outputs.
    fn prepare(&mut self, request: &Inputs) -> Result<Vec<Tensor>, Fault> {
        let first = self.tensors.len();
        if request.len() != self.model.inputs {
            return Err(Fault::internal(format!("{} inputs given of {}", request.len(), self.model.inputs)));
        }
        self.tensors.extend(request.iter().map(input_tensor));
        let mut shapes = vec![abi::Tensor::empty(); self.model.outputs.len()];
        let mut error = abi::Error::new();
        // SAFETY: `inputs` tensors are given and `outputs` are filled, as the header asks; the data is alive and only read.
        let kind = unsafe {
            let inputs = self.tensors.as_ptr().add(first);
            (self.model.library.output_shapes)(self.model.raw, inputs, shapes.as_mut_ptr(), &mut error)
        };
        let outputs = check(kind, &error).and_then(|()| {
            shapes.iter().zip(&self.model.outputs).map(|(shape, dtype)| allocate(shape, *dtype)).collect()
        });
        if outputs.is_err() {
            self.tensors.truncate(first);
        }
        outputs
    }
}

impl Engine for NativeEngine {
    fn run(&mut self, requests: &[&Inputs]) -> Result<Vec<Result<Vec<Tensor>, Fault>>, Fault> {
        if requests.len() > self.limits.requests {
            return Err(Fault::internal("a batch of more requests than the workspace is made for"));
        }
        self.tensors.clear();
        self.results.clear();
        self.status.clear();
        let mut answers: Vec<Result<Vec<Tensor>, Fault>> = requests.iter().map(|r| self.prepare(r)).collect();
        for outputs in answers.iter_mut().flatten() {
            self.results.extend(outputs.iter_mut().map(output_tensor));
            self.status.push(abi::Error::new());
        }
        if self.status.is_empty() {
            return Ok(answers);
        }
        let batch = abi::Batch {
            size: size_of::<abi::Batch>() as u32,
            requests: self.status.len() as u32,
            inputs: self.tensors.as_ptr(),
            outputs: self.results.as_mut_ptr(),
            status: self.status.as_mut_ptr(),
            workspace: self.workspace.as_mut_ptr().cast(),
            workspace_bytes: self.workspace.len() as u64,
        };
        let mut error = abi::Error::new();
        // SAFETY: inputs are requests × inputs tensors, outputs requests × outputs, status one a request, in the same order;
        // all buffers are alive, of the stated sizes, and no one else uses them.
        let kind = unsafe { (self.model.library.run)(self.raw, &batch, &mut error) };
        check(kind, &error)?;
        for (answer, status) in answers.iter_mut().filter(|a| a.is_ok()).zip(&self.status) {
            if let Err(fault) = check(status.kind as c_int, status) {
                *answer = Err(fault);
            }
        }
        Ok(answers)
    }
}

impl Drop for NativeEngine {
    fn drop(&mut self) {
        // SAFETY: no batch runs (that takes &mut self), and it is closed once.
        unsafe { (self.model.library.context_close)(self.raw) }
    }
}

fn input_tensor(tensor: &Option<Tensor>) -> abi::Tensor {
    let mut raw = abi::Tensor::empty();
    let Some(tensor) = tensor else { return raw };
    let (dtype, data, bytes): (u32, *const c_void, usize) = match &tensor.data {
        Data::Float32(v) => (abi::FLOAT32, v.as_ptr().cast(), size_of_val(v.as_slice())),
        Data::Int64(v) => (abi::INT64, v.as_ptr().cast(), size_of_val(v.as_slice())),
        Data::Int32(v) => (abi::INT32, v.as_ptr().cast(), size_of_val(v.as_slice())),
        Data::Bool(v) => (abi::BOOL, v.as_ptr().cast(), size_of_val(v.as_slice())),
    };
    raw.dtype = dtype;
    raw.data = data.cast_mut();
    raw.bytes = bytes as u64;
    raw.rank = tensor.shape.len().min(MAX_RANK) as u32;
    for (to, from) in raw.shape.iter_mut().zip(&tensor.shape) {
        *to = *from as i64;
    }
    raw
}

fn output_tensor(tensor: &mut Tensor) -> abi::Tensor {
    let mut raw = abi::Tensor::empty();
    let (data, bytes): (*mut c_void, usize) = match &mut tensor.data {
        Data::Float32(v) => (v.as_mut_ptr().cast(), size_of_val(v.as_slice())),
        Data::Int64(v) => (v.as_mut_ptr().cast(), size_of_val(v.as_slice())),
        Data::Int32(v) => (v.as_mut_ptr().cast(), size_of_val(v.as_slice())),
        Data::Bool(v) => (v.as_mut_ptr().cast(), size_of_val(v.as_slice())),
    };
    raw.data = data;
    raw.bytes = bytes as u64;
    raw
}

/// A zeroed tensor of the shape that the model gives, which must be of the declared dtype.
fn allocate(shape: &abi::Tensor, dtype: DType) -> Result<Tensor, Fault> {
    let named = match shape.dtype {
        abi::FLOAT32 => Some(DType::Float32),
        abi::INT64 => Some(DType::Int64),
        abi::INT32 => Some(DType::Int32),
        abi::BOOL => Some(DType::Bool),
        _ => None,
    };
    let dims: Option<Vec<usize>> =
        shape.shape.get(..shape.rank as usize).and_then(|dims| dims.iter().map(|d| usize::try_from(*d).ok()).collect());
    let count =
        dims.as_deref().and_then(elements).filter(|n| n.checked_mul(dtype.size()) == Some(shape.bytes as usize));
    match (dims, count) {
        (Some(dims), Some(count)) if named == Some(dtype) => {
            Ok(Tensor { shape: dims, data: Data::zeros(dtype, count) })
        }
        _ => Err(Fault::internal("infc_output_shapes contradicts infc_describe")),
    }
}

fn check(kind: c_int, error: &abi::Error) -> Result<(), Fault> {
    if kind == abi::OK {
        return Ok(());
    }
    let text: Vec<u8> = error.message.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
    Err(Fault {
        kind: match kind {
            abi::CALLER => FaultKind::Caller,
            abi::CAPACITY => FaultKind::Capacity,
            abi::DEVICE_LOST => FaultKind::DeviceLost,
            _ => FaultKind::Internal,
        },
        code: error.code,
        input: usize::try_from(error.input).ok(),
        message: String::from_utf8_lossy(&text).into_owned(),
    })
}
