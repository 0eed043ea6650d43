//! Writes a file in a thread of its own: whole, or not at all.

use std::{
    fs::{self, File, OpenOptions},
    future::{Future, poll_fn},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use bytes::Bytes;
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;

use super::snapshot::SnapshotError;

/// How many pieces may wait for the disk. etcd's have 32 KiB.
const PIECES: usize = 16;

enum Order {
    Write(Bytes),
    /// All has been written: the file gets its name.
    Finish,
}

/// A file that is being written. Dropping it deletes what was written.
pub(super) struct Writer {
    orders: mpsc::Sender<Order>,
    done: oneshot::Receiver<Result<(), SnapshotError>>,
    path: PathBuf,
}

impl Writer {
    /// Begins the file that is to have this path.
    pub(super) fn start(path: PathBuf) -> Result<Self, SnapshotError> {
        let (orders, received) = mpsc::channel(PIECES);
        let (report, done) = oneshot::channel();
        let of_thread = path.clone();
        let work = move || {
            // Nobody waits for it any more if this fails.
            let _ = report.send(run(received, &of_thread));
        };
        match thread::Builder::new().name("etcd-snapshot".into()).spawn(work) {
            Ok(_) => Ok(Self { orders, done, path }),
            Err(error) => Err(SnapshotError::File { action: "start a thread that writes", path, error }),
        }
    }

    /// Gives it the next piece, once there is room.
    pub(super) async fn write(&mut self, piece: Bytes) -> Result<(), SnapshotError> {
        self.order(Order::Write(piece)).await
    }

    /// Waits until the file is on disk and has its name.
    pub(super) async fn finish(mut self) -> Result<(), SnapshotError> {
        self.order(Order::Finish).await?;
        self.report().await
    }

    /// Waits until what was written is deleted.
    pub(super) async fn give_up(mut self) {
        self.orders.close_channel();
        let _ = self.report().await;
    }

    async fn order(&mut self, order: Order) -> Result<(), SnapshotError> {
        let sent = match poll_fn(|cx| self.orders.poll_ready(cx)).await {
            Ok(()) => self.orders.start_send(order),
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => Ok(()),
            // The thread ends early only for an error, which it reports.
            Err(_) => self.report().await.and_then(|()| Err(self.thread_is_gone())),
        }
    }

    async fn report(&mut self) -> Result<(), SnapshotError> {
        (&mut self.done).await.unwrap_or_else(|_| Err(self.thread_is_gone()))
    }

    fn thread_is_gone(&self) -> SnapshotError {
        let error = io::Error::other("the thread that writes it has ended");
        SnapshotError::File { action: "write", path: self.path.clone(), error }
    }
}

/// Writes what is ordered, and deletes it if it isn't finished.
fn run(orders: mpsc::Receiver<Order>, path: &Path) -> Result<(), SnapshotError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |error| SnapshotError::File { action, path, error }
    };
    check_replaceable(path).map_err(failed("replace", path))?;
    let part = part_of(path);
    let file = create(&part).map_err(failed("create", &part))?;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let result = write(file, orders, &waker).map_err(failed("write", &part)).and_then(|is_finished| {
        if is_finished {
            fs::rename(&part, path).map_err(failed("replace", path))?
        }
        Ok(is_finished)
    });
    match result {
        Ok(true) => sync_directory_of(path).map_err(failed("sync the directory of", path)),
        result => {
            // It has no name by which it could be taken for whole, so that it may stay if it has to.
            let _ = fs::remove_file(&part);
            result.map(drop)
        }
    }
}

/// Whether the file is finished, and on disk.
fn write(mut file: File, mut orders: mpsc::Receiver<Order>, waker: &Waker) -> io::Result<bool> {
    loop {
        match block_on(orders.next(), waker) {
            Some(Order::Write(piece)) => file.write_all(&piece)?,
            Some(Order::Finish) => {
                file.sync_all()?;
                return Ok(true);
            }
            None => return Ok(false),
        }
    }
}

/// Its name is its own, so that two that save to one path at once don't write into one file.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:08x}.part", fastrand::u32(..)));
    name.into()
}

/// A new file. A snapshot has everybody's secrets in it.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Only then does the new name survive a loss of power. File systems that can't do this say so, and are left at that.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if cfg!(not(unix)) {
        return Ok(());
    }
    match File::open(directory.unwrap_or_else(|| Path::new("."))).and_then(|directory| directory.sync_all()) {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) => Ok(()),
        result => result,
    }
}

/// Only a file is replaced: renaming over a device or a symbolic link would replace that itself.
fn check_replaceable(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::other("what is there is no file")),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits in this thread.
fn block_on<F: Future>(future: F, waker: &Waker) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(waker);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that is deleted when this is dropped.
    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("etcd-watch-{:016x}", fastrand::u64(..)));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn wait<F: Future>(future: F) -> F::Output {
        block_on(future, &Waker::from(Arc::new(Unpark(thread::current()))))
    }

    #[test]
    fn a_file_has_its_name_only_once_it_is_whole() {
        let directory = Directory::new();
        let path = directory.0.join("db");
        fs::write(&path, "the last one").unwrap();
        let mut writer = Writer::start(path.clone()).unwrap();
        for piece in ["one ", "two ", "three"] {
            wait(writer.write(piece.into())).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"the last one");
        }
        wait(writer.finish()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one two three");
        assert_eq!(directory.names(), ["db"]);
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions()) & 0o777,
            0o600
        );
    }

    #[test]
    #[cfg(unix)]
    fn only_a_file_is_replaced() {
        let directory = Directory::new();
        let (target, link) = (directory.0.join("target"), directory.0.join("link"));
        fs::write(&target, "the last one").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for place in [link, directory.0.clone()] {
            let error = wait(Writer::start(place.clone()).unwrap().finish()).unwrap_err();
            assert!(matches!(error, SnapshotError::File { action: "replace", .. }), "{place:?}: {error}");
        }
        assert_eq!(fs::read(&target).unwrap(), b"the last one");
        assert_eq!(directory.names().len(), 2, "nothing was begun");
    }

    #[test]
    fn one_that_is_given_up_or_dropped_leaves_nothing() {
        let directory = Directory::new();
        let mut writer = Writer::start(directory.0.join("db")).unwrap();
        wait(writer.write("one".into())).unwrap();
        wait(writer.give_up());
        assert_eq!(directory.names(), [""; 0]);

        let mut writer = Writer::start(directory.0.join("db")).unwrap();
        wait(writer.write("one".into())).unwrap();
        let Writer { orders, done, .. } = writer;
        drop(orders);
        let _ = wait(done);
        assert_eq!(directory.names(), [""; 0]);
    }

    #[test]
    fn a_file_that_can_not_be_made_is_told_by_the_first_order_that_comes_after_it() {
        let directory = Directory::new();
        let mut writer = Writer::start(directory.0.join("missing").join("db")).unwrap();
        let mut written = Ok(());
        for _ in 0..=PIECES + 1 {
            written = written.and_then(|()| wait(writer.write("one".into())));
        }
        let error = written.unwrap_err();
        assert!(matches!(error, SnapshotError::File { action: "create", .. }), "{error}");
    }
}
