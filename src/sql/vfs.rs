//! Where SQLite finds its files: the only unsafe code around it.
//!
//! SQLite reaches files, time and chance through a table of functions. Ours gives it `Pages` for the database and
//! bounded memory for what it puts aside while it works (large sorts, for example), the time of the log for the
//! clock, and nothing else: no path is opened, and no other process is known.
//!
//! Invariant: a connection and its files are used by one thread at a time, as `rusqlite` sees to (a `Connection`
//! is not `Sync`). Each database has a name of its own, under which its pages are found when it is opened.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use rusqlite::functions::Context;
use rusqlite::{Connection, OpenFlags, ffi};

use crate::limits::SQL_SCRATCH_SIZE_MAX;

use super::pages::{PAGE_SIZE, Pages};

const NAME: &CStr = c"loggos";
/// Milliseconds from the beginning of Julian days to 1970.
const JULIAN_TO_UNIX_MS: i64 = 210_866_760_000_000;

thread_local! {
    /// What SQLite takes for the time, in milliseconds since 1970.
    static NOW_MS: Cell<i64> = const { Cell::new(0) };
    /// Bytes that scratch files of this thread hold.
    static SCRATCH_SIZE: Cell<usize> = const { Cell::new(0) };
}

/// Sets the time for all connections that this thread uses.
pub fn set_now_ms(now_ms: i64) {
    NOW_MS.set(now_ms);
}

/// A database that SQLite can open. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Medium(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    number: u64,
    pages: Mutex<Pages>,
}

impl Inner {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// All that is just being opened, by number.
fn media() -> MutexGuard<'static, BTreeMap<u64, Arc<Inner>>> {
    static MEDIA: Mutex<BTreeMap<u64, Arc<Inner>>> = Mutex::new(BTreeMap::new());
    MEDIA.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Medium {
    pub fn new(pages: Pages) -> Medium {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Medium(Arc::new(Inner { number, pages: Mutex::new(pages) }))
    }

    pub fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.pages()
    }

    /// Opens it. What is not there yet is an empty database.
    pub fn open(&self, read_only: bool) -> rusqlite::Result<Connection> {
        register();
        media().insert(self.0.number, Arc::clone(&self.0));
        let access = match read_only {
            true => OpenFlags::SQLITE_OPEN_READ_ONLY,
            false => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let name = self.0.number.to_string();
        let connection = Connection::open_with_flags_and_vfs(name, flags, NAME);
        // It opens its file when it first needs it.
        let opened = connection.and_then(|connection| {
            connection.pragma_query_value(None, "schema_version", |_| Ok(()))?;
            Ok(connection)
        });
        media().remove(&self.0.number);
        opened
    }
}

/// What a `sqlite3_file` of ours is: SQLite sets the memory aside, and we own what `body` points to.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    body: *mut Body,
}

enum Body {
    Database(Arc<Inner>),
    Scratch(Vec<u8>),
}

impl Body {
    /// Copies bytes from `offset` on, and returns how many there are.
    fn read(&self, offset: usize, out: &mut [u8]) -> usize {
        match self {
            Body::Database(inner) => inner.pages().read(offset, out),
            Body::Scratch(bytes) => {
                let there = bytes.get(offset..).unwrap_or_default();
                let n = there.len().min(out.len());
                out[..n].copy_from_slice(&there[..n]);
                n
            }
        }
    }

    /// False if there is no room for it.
    fn write(&mut self, offset: usize, bytes: &[u8]) -> bool {
        match self {
            Body::Database(inner) => inner.pages().write(offset, bytes),
            Body::Scratch(held) => {
                let end = offset + bytes.len();
                if held.len() < end {
                    let size = SCRATCH_SIZE.get() + end - held.len();
                    if SQL_SCRATCH_SIZE_MAX < size {
                        return false;
                    }
                    SCRATCH_SIZE.set(size);
                    held.resize(end, 0);
                }
                held[offset..end].copy_from_slice(bytes);
            }
        }
        true
    }

    fn truncate(&mut self, size: usize) {
        match self {
            Body::Database(inner) => inner.pages().resize(size.div_ceil(PAGE_SIZE)),
            Body::Scratch(bytes) => {
                let size = bytes.len().min(size);
                SCRATCH_SIZE.set(SCRATCH_SIZE.get() - (bytes.len() - size));
                bytes.truncate(size);
            }
        }
    }

    fn size(&self) -> usize {
        match self {
            Body::Database(inner) => inner.pages().len() * PAGE_SIZE,
            Body::Scratch(bytes) => bytes.len(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Body::Scratch(bytes) = self {
            SCRATCH_SIZE.set(SCRATCH_SIZE.get() - bytes.len());
        }
    }
}

/// Makes our functions known to SQLite, once.
fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let vfs = Box::new(ffi::sqlite3_vfs {
            iVersion: 2,
            szOsFile: size_of::<File>() as c_int,
            mxPathname: 64,
            pNext: std::ptr::null_mut(),
            zName: NAME.as_ptr(),
            pAppData: std::ptr::null_mut(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(current_time),
            xGetLastError: Some(last_error),
            xCurrentTimeInt64: Some(current_time_ms),
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        });
        // SAFETY: the structure and its name live for ever, and the functions keep to SQLite's contract.
        let code = unsafe { ffi::sqlite3_vfs_register(Box::into_raw(vfs), 0) };
        assert!(code == ffi::SQLITE_OK, "SQLite takes a virtual file system");
    });
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let file = file.cast::<File>();
    // SAFETY: SQLite hands over room for a `File` (`szOsFile`); with no methods nothing of it is closed.
    unsafe { (*file).base.pMethods = std::ptr::null() };
    let body = if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
        // SAFETY: the name of a main database is a string that outlives the file.
        let name = unsafe { CStr::from_ptr(name) };
        let number = name.to_str().ok().and_then(|name| name.parse::<u64>().ok());
        match number.and_then(|number| media().get(&number).cloned()) {
            Some(inner) => Body::Database(inner),
            None => return ffi::SQLITE_CANTOPEN,
        }
    } else if flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0 {
        Body::Scratch(Vec::new())
    } else {
        return ffi::SQLITE_CANTOPEN;
    };
    // SAFETY: as above; `out_flags` may be null.
    unsafe {
        (*file).body = Box::into_raw(Box::new(body));
        (*file).base.pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

/// The body of a file that `open` has made.
///
/// # Safety
/// `file` is open, and nobody else uses it meanwhile: see the invariant above.
unsafe fn body<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Body {
    // SAFETY: what the caller promises.
    unsafe { &mut *(*file.cast::<File>()).body }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: `open` made it, and SQLite closes a file once.
    drop(unsafe { Box::from_raw((*file.cast::<File>()).body) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    size: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite gives room for `size` bytes, and an open file.
    let (out, body) =
        unsafe { (std::slice::from_raw_parts_mut(buffer.cast::<u8>(), size as usize), body(file)) };
    let found = body.read(offset as usize, out);
    if found == out.len() {
        return ffi::SQLITE_OK;
    }
    out[found..].fill(0);
    ffi::SQLITE_IOERR_SHORT_READ
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    buffer: *const c_void,
    size: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite gives `size` bytes, and an open file.
    let (bytes, body) =
        unsafe { (std::slice::from_raw_parts(buffer.cast::<u8>(), size as usize), body(file)) };
    if body.write(offset as usize, bytes) { ffi::SQLITE_OK } else { ffi::SQLITE_FULL }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: an open file.
    unsafe { body(file) }.truncate(size as usize);
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(
    file: *mut ffi::sqlite3_file,
    size: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: an open file, and room for its size.
    unsafe { *size = body(file).size() as i64 };
    ffi::SQLITE_OK
}

/// What is durable is the log's business.
unsafe extern "C" fn sync(_file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    ffi::SQLITE_OK
}

/// Nobody else is there.
unsafe extern "C" fn lock(_file: *mut ffi::sqlite3_file, _level: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(_file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: room for the answer.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(
    _file: *mut ffi::sqlite3_file,
    _operation: c_int,
    _argument: *mut c_void,
) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    PAGE_SIZE as c_int
}

unsafe extern "C" fn device_characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_ATOMIC4K | ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn delete(
    _vfs: *mut ffi::sqlite3_vfs,
    _name: *const c_char,
    _sync_dir: c_int,
) -> c_int {
    ffi::SQLITE_OK
}

/// There is no journal that a crash could have left.
unsafe extern "C" fn access(
    _vfs: *mut ffi::sqlite3_vfs,
    _name: *const c_char,
    _flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: room for the answer.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: a string, and room for `size` bytes.
    unsafe {
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if (size as usize) < bytes.len() {
            return ffi::SQLITE_CANTOPEN;
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
    }
    ffi::SQLITE_OK
}

/// Chance comes from the log (`context`), never from here.
unsafe extern "C" fn randomness(
    _vfs: *mut ffi::sqlite3_vfs,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: room for `size` bytes.
    unsafe { std::ptr::write_bytes(out, 0, size as usize) };
    size
}

unsafe extern "C" fn sleep(_vfs: *mut ffi::sqlite3_vfs, _us: c_int) -> c_int {
    0
}

unsafe extern "C" fn current_time(_vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: room for the answer.
    unsafe { *out = (JULIAN_TO_UNIX_MS + NOW_MS.get()) as f64 / 86_400_000.0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn current_time_ms(
    _vfs: *mut ffi::sqlite3_vfs,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: room for the answer.
    unsafe { *out = JULIAN_TO_UNIX_MS + NOW_MS.get() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn last_error(
    _vfs: *mut ffi::sqlite3_vfs,
    _size: c_int,
    _out: *mut c_char,
) -> c_int {
    0
}

/// Forgets what the connection holds of the database: the next statement begins with its pages alone.
pub fn forget_pages(connection: &Connection) {
    // SAFETY: the connection is open, and no statement of it is under way.
    unsafe { ffi::sqlite3_db_release_memory(connection.handle()) };
}

/// The next statement begins as after a restart: with the pages alone, and with SQLite drawing from `seed` where it
/// needs chance by itself (rowids, when the largest is taken). Readers need none.
pub fn begin_anew(connection: &Connection, seed: u32) {
    forget_pages(connection);
    // SAFETY: as above. The seed is not 0, which would mean chance from outside.
    unsafe {
        ffi::sqlite3_set_last_insert_rowid(connection.handle(), 0);
        let no_database: *mut ffi::sqlite3 = std::ptr::null_mut();
        ffi::sqlite3_test_control(ffi::SQLITE_TESTCTRL_PRNG_SEED, (seed | 1) as c_int, no_database);
    }
}

/// Rows that the last statement of the calling connection has changed, and all so far.
pub fn changes(call: &Context<'_>) -> rusqlite::Result<(u64, u64)> {
    // SAFETY: the connection is not kept beyond this call, and nothing is run on it.
    let connection = unsafe { call.get_connection()? };
    Ok((connection.changes(), connection.total_changes()))
}
