//! A small ext4 file system of its own: it can be filled, and the kernel can hold back or refuse its writes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// In a file, mounted at a folder as long as this lives.
#[derive(Debug)]
pub struct SmallDisk {
    image: PathBuf,
    at: PathBuf,
}

fn ok(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl SmallDisk {
    /// `None` where nothing can be mounted.
    pub fn mount(image: &Path, at: &Path, mib: u64) -> Option<Self> {
        let file = std::fs::File::create(image).ok()?;
        file.set_len(mib * 1024 * 1024).ok()?;
        std::fs::create_dir_all(at).ok()?;
        let disk = Self { image: image.to_owned(), at: at.to_owned() };
        let is_made = ok(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(image));
        (is_made && disk.mount_again()).then_some(disk)
    }

    fn mount_again(&self) -> bool {
        // After an error it takes no writes, as is usual for disks with data.
        ok(Command::new("mount").args(["-o", "loop,errors=remount-ro"]).arg(&self.image).arg(&self.at))
    }

    /// Takes all space but so much; false if it cannot.
    pub fn fill(&self, left_mib: u64) -> bool {
        let filler = self.at.join("filler");
        let Ok(out) = Command::new("df").args(["-m", "--output=avail"]).arg(&self.at).output() else { return false };
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let Some(free) = text.lines().nth(1).and_then(|line| line.trim().parse::<u64>().ok()) else { return false };
        let size = format!("{}MiB", free.saturating_sub(left_mib));
        ok(Command::new("fallocate").args(["-l", &size]).arg(filler))
    }

    pub fn free(&self) {
        let _ = std::fs::remove_file(self.at.join("filler"));
    }

    /// Writes hang from now on, or go on.
    pub fn hang(&self, hangs: bool) -> bool {
        ok(Command::new("fsfreeze").arg(if hangs { "-f" } else { "-u" }).arg(&self.at))
    }

    /// The kernel meets an error: writes fail from now on.
    pub fn fail(&self) -> bool {
        std::fs::write(format!("/sys/fs/ext4/{}/trigger_fs_error", self.device()), "a test").is_ok()
    }

    /// Checks it and mounts it again; nobody may have files open there.
    pub fn mend(&self) -> bool {
        // The kernel's copy of what it could not write goes first.
        let _ = ok(Command::new("umount").arg(&self.at));
        let _ = ok(Command::new("e2fsck").args(["-f", "-y"]).arg(&self.image));
        self.mount_again()
    }

    fn device(&self) -> String {
        let out = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(&self.at).output();
        let text = out.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
        text.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = ok(Command::new("fsfreeze").arg("-u").arg(&self.at));
        let _ = ok(Command::new("umount").arg("-l").arg(&self.at));
    }
}
