//! The one writer. Writes queue up; the task takes all that wait, up to [`GROUP`], writes them in one transaction and
//! answers each of them only after the commit: many writers share one wait for the disk. If one write of a group fails,
//! the group is undone and each write is tried alone, so that it fails alone.
//!
//! A server may be started anew under it: what was under way is written again on a new connection, unless it turns out to
//! have been committed ([`Seal`]), so that nothing is lost and nothing is there twice.

use sea_orm::{DatabaseConnection, DbErr};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::database::{Database, Patience};
use super::postgres::Seal;
use super::transaction::Transaction;
use super::{failure, write};
use crate::error::MemoryError;
use write::{Write, Written};

/// Writes in one transaction, at most: enough to share the wait for the disk, few enough to answer soon.
const GROUP: usize = 256;
/// Writes that may wait; whoever comes after them waits to be let in.
const QUEUE: usize = 1024;

/// A write, and who waits for it.
struct Job {
    write: Write,
    done: oneshot::Sender<Result<Written, MemoryError>>,
}

/// Hands writes to the task; cheap to clone.
#[derive(Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
    stop: CancellationToken,
    task: TaskTracker,
}

impl Writer {
    /// Starts the task over its own connection, which it replaces when a transaction could not be ended properly.
    pub fn start(database: Database, connection: DatabaseConnection) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (stop, task) = (CancellationToken::new(), TaskTracker::new());
        task.spawn(
            Task {
                database,
                connection: Some(connection),
                seal: Seal {
                    writer: Uuid::now_v7(),
                    number: 0,
                },
            }
            .run(queue, stop.clone()),
        );
        task.close();
        Self { jobs, stop, task }
    }

    /// Returns when the write is durable.
    pub async fn write(&self, write: Write) -> Result<Written, MemoryError> {
        let stopped = || MemoryError::Storage("the journal is closed: the server is stopping".to_owned());
        let (done, answer) = oneshot::channel();
        self.jobs.send(Job { write, done }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Takes no more writes, and returns when those that were taken are done.
    pub async fn close(&self) {
        self.stop.cancel();
        self.task.wait().await;
    }
}

struct Task {
    database: Database,
    connection: Option<DatabaseConnection>,
    /// Of the last transaction.
    seal: Seal,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>, stop: CancellationToken) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !queue.is_closed() => queue.close(),
                taken = queue.recv_many(&mut group, GROUP) => match taken {
                    0 => break,
                    _ => self.commit_group(&mut group).await,
                },
            }
        }
        if let Some(connection) = self.connection.take() {
            // What it leaves behind where this fails is a row that nobody looks at.
            let ended = self.database.site().end(&connection, self.seal).await;
            if let Err(error) = ended.and(connection.close().await) {
                tracing::debug!("the journal's connection was not closed cleanly: {error}");
            }
        }
    }

    /// Empties the group: each of its jobs is answered. What is no transaction comes last.
    async fn commit_group(&mut self, group: &mut Vec<Job>) {
        // After all others of its group, since it is meant for what was deleted before it.
        let mut purges = Vec::new();
        let mut place = 0;
        while place < group.len() {
            if matches!(group[place].write, Write::Purge) {
                purges.push(group.remove(place));
            } else {
                place += 1;
            }
        }
        self.commit_writes(group).await;
        for job in purges {
            let result = self.purge().await;
            job.answer(result.map(|()| Written::default()));
        }
    }

    /// Overwrites what was deleted.
    async fn purge(&mut self) -> Result<(), MemoryError> {
        let site = self.database.site();
        let explain = |error| failure::explain(site, &error);
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => site.connect().await.map_err(explain)?,
        };
        let purged = site.purge(&connection).await.map_err(explain)?;
        self.connection = Some(connection);
        if purged {
            return Ok(());
        }
        Err(MemoryError::Storage(format!(
            "{}: a long read was in the way of overwriting what was deleted; do it again",
            site.name()
        )))
    }

    /// Empties the group: each of its jobs is answered.
    async fn commit_writes(&mut self, group: &mut Vec<Job>) {
        // Why the database takes no transaction at all: then there is no use in trying the rest one by one.
        let mut down = None;
        if group.len() > 1 {
            let writes: Vec<&Write> = group.iter().map(|job| &job.write).collect();
            match self.transact(&writes).await {
                Ok(written) => {
                    for (job, written) in group.drain(..).zip(written) {
                        job.answer(Ok(written));
                    }
                    return;
                }
                Err(undone) => down = undone.down(),
            }
        }
        for job in group.drain(..) {
            let result = match &down {
                Some(reason) => Err(MemoryError::Storage(reason.clone())),
                None => match self.transact(&[&job.write]).await {
                    Ok(written) => Ok(written.into_iter().next().unwrap_or_default()),
                    Err(undone) => {
                        down = undone.down();
                        Err(undone.error)
                    }
                },
            };
            if let Err(error) = &result {
                tracing::error!("a write to the journal failed: {error}");
            }
            job.answer(result);
        }
    }

    /// All of these writes, durably, or none. Waits for the end of a trouble that passes.
    async fn transact(&mut self, writes: &[&Write]) -> Result<Vec<Written>, Undone> {
        let mut patience = Patience::default();
        let mut unknown = None;
        loop {
            match self.attempt(writes, unknown.take()).await {
                Attempt::Written(written) => return Ok(written),
                Attempt::Undone(undone) if undone.passes && patience.pause().await => {}
                Attempt::Undone(undone) => return Err(undone),
                Attempt::Unknown(sealed, error) => {
                    if !patience.pause().await {
                        return Err(self.undone(error, false));
                    }
                    unknown = Some(sealed);
                }
            }
        }
    }

    /// One transaction. After one whose end is unknown, that is found out first.
    async fn attempt(&mut self, writes: &[&Write], unknown: Option<Sealed>) -> Attempt {
        // A transaction that could not be ended leaves the driver and the database in disagreement on whether one is open (on
        // a full disk, SQLite may undo it by itself): the connection is kept only where that went well.
        let connection = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.database.site().connect().await,
        };
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => return self.not_begun(error, unknown),
        };
        self.seal.number += 1;
        // To find out what became of an earlier one, it must be over.
        let alone = unknown.is_some() || writes.iter().any(|write| write.reads_first());
        let earlier = unknown.as_ref().map(|sealed| sealed.seal);
        let begun = self.database.site().begin(&connection, self.seal, alone, earlier).await;
        let transaction = match (begun, unknown) {
            (Ok(Some(transaction)), _) => transaction,
            (Ok(None), unknown) => {
                self.connection = Some(connection);
                return Attempt::Written(unknown.map(|sealed| sealed.written).unwrap_or_default());
            }
            (Err(error), unknown) => return self.not_begun(error, unknown),
        };
        match self.apply(&transaction, writes).await {
            Ok(written) => match transaction.commit().await {
                Ok(()) => {
                    self.connection = Some(connection);
                    Attempt::Written(written)
                }
                Err(error) if self.passes(&error) => {
                    let seal = self.seal;
                    Attempt::Unknown(Sealed { seal, written }, error)
                }
                Err(error) => Attempt::Undone(self.undone(error, true)),
            },
            Err(error) => {
                let passes = transaction.is_broken();
                if transaction.rollback().await.is_ok() {
                    self.connection = Some(connection);
                }
                Attempt::Undone(Undone {
                    error,
                    began: !passes,
                    passes,
                })
            }
        }
    }

    /// The attempt did not begin: what was unknown before it still is.
    fn not_begun(&self, error: DbErr, unknown: Option<Sealed>) -> Attempt {
        match unknown {
            Some(sealed) if self.passes(&error) => Attempt::Unknown(sealed, error),
            _ => Attempt::Undone(self.undone(error, false)),
        }
    }

    fn passes(&self, error: &DbErr) -> bool {
        use sea_orm::ConnectionTrait;
        failure::passes(self.database.get_database_backend(), error)
    }

    fn undone(&self, error: DbErr, began: bool) -> Undone {
        Undone {
            error: self.database.explain(&error),
            began,
            passes: self.passes(&error),
        }
    }

    async fn apply(&self, transaction: &Transaction, writes: &[&Write]) -> Result<Vec<Written>, MemoryError> {
        let mut written = Vec::with_capacity(writes.len());
        for write in writes {
            written.push(write::apply(&self.database, transaction, write).await?);
        }
        Ok(written)
    }
}

/// How a transaction ended.
enum Attempt {
    Written(Vec<Written>),
    Undone(Undone),
    /// The connection went during the commit.
    Unknown(Sealed, DbErr),
}

/// What was written, if it was.
struct Sealed {
    seal: Seal,
    written: Vec<Written>,
}

impl Job {
    fn answer(self, result: Result<Written, MemoryError>) {
        // Nobody waits any more if the request was cancelled: the write stands all the same.
        let _ = self.done.send(result);
    }
}

/// A transaction of which nothing was written.
struct Undone {
    error: MemoryError,
    /// Whether the database had let it begin, and stayed.
    began: bool,
    /// Whether it is worth another try.
    passes: bool,
}

impl Undone {
    fn down(&self) -> Option<String> {
        (!self.began).then(|| self.error.to_string())
    }
}
