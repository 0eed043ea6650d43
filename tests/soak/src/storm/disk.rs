//! A member's disk that is full.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use super::{INTERVAL, Storm, run};
use crate::error::SoakError;

/// How large the disk is: a log of etcd's takes 64 MiB of it, and the one that comes next as much.
const SIZE: &str = "size=512m";
/// How much longer than the fault the member gets to notice.
const NOTICE: Duration = Duration::from_secs(3);

/// Why no disk can be full, if so.
pub(crate) fn lack(is_apart: bool) -> Option<String> {
    if !is_apart {
        return Some("it needs mounts of its own".to_owned());
    }
    let tried = tempfile::tempdir().map_err(SoakError::io("make a directory")).and_then(|directory| {
        let path = directory.path();
        mount(path)?;
        unmount(path)
    });
    tried.err().map(|error| error.to_string())
}

/// A small disk that a member's data is on for a while. Dropping it takes the data away with it.
struct SmallDisk {
    data: PathBuf,
    /// Where the data was and will be.
    aside: PathBuf,
    is_mounted: bool,
}

impl SmallDisk {
    /// Moves a member's data to a small disk. The member must not run.
    fn under(data: &Path) -> Result<Self, SoakError> {
        let aside = data.with_extension("aside");
        fs::rename(data, &aside).map_err(SoakError::io("put a member's data aside"))?;
        fs::create_dir(data).map_err(SoakError::io("make a directory"))?;
        mount(data)?;
        let disk = Self { data: data.to_owned(), aside, is_mounted: true };
        copy(&disk.aside, &disk.data)?;
        Ok(disk)
    }

    fn ballast(&self) -> PathBuf {
        self.data.join("ballast")
    }

    /// Writes until there is no more space.
    fn fill(&self) -> Result<(), SoakError> {
        let fill = || -> io::Result<()> {
            let mut ballast = File::create(self.ballast())?;
            for length in [1 << 20, 4 << 10, 1] {
                loop {
                    match ballast.write(&vec![0; length]) {
                        Ok(1..) => {}
                        Ok(0) => break,
                        Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                        Err(error) => return Err(error),
                    }
                }
            }
            Ok(())
        };
        fill().map_err(SoakError::io("fill a disk"))
    }

    /// Moves the data back.
    fn take_away(mut self) -> Result<(), SoakError> {
        fs::remove_file(self.ballast()).map_err(SoakError::io("make space on a disk"))?;
        fs::remove_dir_all(&self.aside).map_err(SoakError::io("remove what is out of date"))?;
        copy(&self.data, &self.aside)?;
        self.is_mounted = false;
        unmount(&self.data)?;
        fs::remove_dir(&self.data).map_err(SoakError::io("remove a directory"))?;
        fs::rename(&self.aside, &self.data).map_err(SoakError::io("put a member's data back"))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.is_mounted {
            // It ends with this process's mounts at the latest.
            let _ = unmount(&self.data);
        }
    }
}

impl Storm {
    /// Fills a member's disk. Returns `None` if the member wrote nothing meanwhile, so that it did not notice.
    pub(super) async fn fill_disk(
        &self,
        member: usize,
        lasts: Duration,
    ) -> Result<Option<String>, SoakError> {
        let mut disk = None;
        self.restart_as(member, false, |server| {
            let data = server.working_directory().join("data");
            disk = Some(tokio::task::block_in_place(|| SmallDisk::under(&data))?);
            Ok(())
        })
        .await?;
        let Some(disk) = disk else { return Ok(None) };
        self.world.set_down(member, true);
        tokio::task::block_in_place(|| disk.fill())?;
        let (since, ended) = (Instant::now(), self.wait_for_its_end(member, lasts).await?);
        let after = since.elapsed().as_secs_f64();
        self.restart_as(member, false, |_| tokio::task::block_in_place(|| disk.take_away())).await?;
        if !ended {
            self.journal.note(format!("member {member} lived for {after:.1} s with a full disk"));
            return Ok(None);
        }
        Ok(Some(format!("member {member}: it has died after {after:.1} s")))
    }

    /// Whether a member has ended within a time.
    async fn wait_for_its_end(&self, member: usize, lasts: Duration) -> Result<bool, SoakError> {
        let end = Instant::now() + lasts + NOTICE;
        while Instant::now() < end {
            if !self.world.cluster.write().await.member_mut(member).has_process()? {
                return Ok(true);
            }
            tokio::time::sleep(INTERVAL).await;
        }
        Ok(false)
    }
}

fn mount(path: &Path) -> Result<(), SoakError> {
    run(Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(path))
}

fn unmount(path: &Path) -> Result<(), SoakError> {
    run(Command::new("umount").arg("--lazy").arg(path))
}

fn copy(from: &Path, to: &Path) -> Result<(), SoakError> {
    // The end of a log is nothing but zeros.
    run(Command::new("cp").args(["--archive", "--sparse=always", "--no-target-directory"]).args([from, to]))
}
