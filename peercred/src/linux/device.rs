//! The device of a file as the kernel's own structures have it.
//!
//! `st_dev` is what a file system wants to show. On btrfs each subvolume shows a number of its own,
//! while the superblock, which socket diagnosis names, has another: it stands in mountinfo.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Stat, StatxFlags, statx};

/// More mounts than any sane machine has.
const LIMIT: u64 = 4 << 20;

/// The kernel's own form of a device number: 12 bits of major, 20 of minor.
fn packed(major: u32, minor: u32) -> u32 {
    major << 20 | minor
}

/// The device that `stat` shows.
pub(super) fn shown(stat: &Stat) -> u32 {
    packed(rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev))
}

/// The device of the superblock that the path is on, if the kernel tells.
pub(super) fn of_superblock(path: &Path) -> io::Result<Option<u32>> {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)?;
    if !StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID) {
        return Ok(None);
    }
    let mounts = BufReader::new(File::open("/proc/self/mountinfo")?.take(LIMIT));
    find(mounts, found.stx_mnt_id)
}

fn find(mounts: impl BufRead, id: u64) -> io::Result<Option<u32>> {
    for line in mounts.split(b'\n') {
        let line = line?;
        // "36 35 98:0 /root /mount/point ...": names after these may be any bytes.
        let mut words = line.split(|byte| *byte == b' ').map(|word| str::from_utf8(word).unwrap_or(""));
        if words.next().and_then(|word| word.parse().ok()) == Some(id) {
            let device = words.nth(1).and_then(|word| word.split_once(':'));
            let Some((major, minor)) = device else { return Ok(None) };
            return Ok(major.parse().ok().zip(minor.parse().ok()).map(|(major, minor)| packed(major, minor)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"21 1 259:3 / / rw - ext4 /dev/root rw\n\
        36 21 0:31 /@home /home rw,relatime shared:1 - btrfs /dev/sda1 rw\n\
        37 21 8 / /odd rw - x x rw\n\
        38 21 0:32 / /na\xffme rw - tmpfs x rw\n";

    #[test]
    fn a_mount_is_found_by_its_number() {
        for (id, device) in
            [(21, Some(packed(259, 3))), (36, Some(31)), (37, None), (38, Some(32)), (1, None), (99, None)]
        {
            assert_eq!(find(MOUNTS, id).expect("read"), device, "{id}");
        }
    }

    #[test]
    fn a_directory_has_the_device_of_its_superblock() {
        // /proc shows what it has.
        let path = Path::new("/proc/self");
        let shown = shown(&rustix::fs::stat(path).expect("there"));
        assert_eq!(of_superblock(path).expect("the kernel tells"), Some(shown));
    }
}
