//! The interface of a pinned link, and the links of an interface: bpf(2) tells them. aya does not, or takes
//! `CAP_SYS_ADMIN`.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// `BPF_OBJ_GET`, `BPF_PROG_QUERY` and `BPF_LINK_DETACH` of `enum bpf_cmd`.
const OBJ_GET: libc::c_long = 7;
const PROG_QUERY: libc::c_long = 16;
const LINK_DETACH: libc::c_long = 34;
/// `BPF_TCX_INGRESS` of `enum bpf_attach_type`.
const TCX_INGRESS: u32 = 46;
/// Most programs of one hook: `BPF_MPROG_MAX`.
const MPROG_MAX: usize = 64;

/// The hook that a program runs at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// An XDP link.
    Xdp,
    /// A TCX link.
    Tcx,
    /// A clsact filter, which has no link.
    Clsact,
}

/// A pinned link, as its fdinfo shows it, or the clsact filter in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// The program's id.
    pub program_id: u32,
    /// The interface's index in its own network namespace, which need not be the caller's; 0 where the link
    /// was detached or the interface is gone.
    pub index: u32,
    /// The hook.
    pub kind: LinkKind,
}

impl LinkState {
    /// Reads the link pinned at `path`.
    ///
    /// # Errors
    ///
    /// Those of open(2), and [`io::ErrorKind::InvalidData`] where the pin is no link of an interface.
    pub fn read(path: &Path) -> io::Result<Self> {
        let link = open_pinned(path)?;
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd()))?;
        Self::parse(&text).ok_or_else(|| {
            let kind = io::ErrorKind::InvalidData;
            io::Error::new(kind, "not the link of a network interface")
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line?.strip_prefix(':').map(str::trim)
        };
        Some(Self {
            program_id: value("prog_id")?.parse().ok()?,
            index: value("ifindex")?.parse().ok()?,
            kind: match value("link_type")? {
                "tcx" => LinkKind::Tcx,
                _ => LinkKind::Xdp,
            },
        })
    }
}

/// A pinned link that is to be detached, whether it stays pinned or not.
pub struct OpenLink(OwnedFd);

impl OpenLink {
    /// Opens the link pinned at `path`.
    ///
    /// # Errors
    ///
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        open_pinned(path).map(Self)
    }

    /// Detaches the program at once.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn detach(self) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        let pointer = &raw const fd;
        // SAFETY: `fd` outlives the call, which reads no more than the size given: the descriptor of the link.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, LINK_DETACH, pointer, size_of_val(&fd)) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// The ids of the TCX programs at ingress of the interface of this index, in the calling thread's namespace.
///
/// # Errors
///
/// The kernel's, such as before Linux 6.6.
pub fn tcx_programs(index: u32) -> io::Result<Vec<u32>> {
    /// The part of `union bpf_attr` that `BPF_PROG_QUERY` reads and writes.
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        target_ifindex: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        count: u32,
        reserved: u32,
        prog_attach_flags: u64,
        link_ids: u64,
        link_attach_flags: u64,
        revision: u64,
    }
    let mut ids = vec![0_u32; MPROG_MAX];
    let mut attributes = Attributes {
        target_ifindex: index,
        attach_type: TCX_INGRESS,
        prog_ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..Attributes::default()
    };
    let (pointer, len) = (&raw mut attributes, size_of::<Attributes>());
    // SAFETY: `attributes` outlives the call, which reads and writes no more than the size given, and writes at most
    // `count` ids to `prog_ids`.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, pointer, len) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    ids.truncate(attributes.count as usize);
    Ok(ids)
}

fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    /// The part of `union bpf_attr` that `BPF_OBJ_GET` reads; the kernel takes the rest as 0.
    #[repr(C)]
    struct Attributes {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = Attributes {
        pathname: path.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    let pointer = &raw const attributes;
    // SAFETY: `attributes` and the path that it points to outlive the call, which reads no more than the
    // size given.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET, pointer, size_of_val(&attributes)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_lines_of_fdinfo() {
        let text =
            "pos:\t0\nlink_type:\txdp\nlink_id:\t7\nprog_tag:\t00ff\nprog_id:\t41\nifindex:\t3\n";
        let state = LinkState::parse(text);
        let expected = LinkState {
            program_id: 41,
            index: 3,
            kind: LinkKind::Xdp,
        };
        assert_eq!(state, Some(expected));
        assert_eq!(LinkState::parse("link_type:\ttracing\nprog_id:\t4\n"), None);
    }
}
