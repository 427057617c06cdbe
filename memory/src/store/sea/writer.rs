//! The one writer. Writes queue up; the task takes all that wait, up to [`GROUP`], writes them in one transaction and
//! answers each of them only after the commit: many writers share one wait for the disk. If one write of a group fails,
//! the group is undone and each write is tried alone, so that it fails alone.

use std::path::PathBuf;

use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::{DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{failure, open, write};
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
    pub fn start(path: PathBuf, options: SqliteConnectOptions, connection: DatabaseConnection) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (stop, task) = (CancellationToken::new(), TaskTracker::new());
        task.spawn(
            Task {
                path,
                options,
                connection: Some(connection),
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
    path: PathBuf,
    options: SqliteConnectOptions,
    connection: Option<DatabaseConnection>,
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
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!("the journal's connection was not closed cleanly: {error}");
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

    /// Writes the whole file anew, and empties the write-ahead log.
    async fn purge(&mut self) -> Result<(), MemoryError> {
        let connection = match &self.connection {
            Some(connection) => connection,
            None => self
                .connection
                .insert(open::writer(&self.path, self.options.clone()).await?),
        };
        let purged = open::purge(connection).await;
        if purged.map_err(|error| failure::explain(&self.path, &error))? {
            return Ok(());
        }
        Err(MemoryError::Storage(format!(
            "{}: a long read was in the way of overwriting what was deleted; do it again",
            self.path.display()
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

    /// All of these writes, durably, or none.
    async fn transact(&mut self, writes: &[&Write]) -> Result<Vec<Written>, Undone> {
        let unavailable = |error| Undone { error, began: false };
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => open::writer(&self.path, self.options.clone())
                .await
                .map_err(unavailable)?,
        };
        // A transaction that could not be ended leaves the driver and SQLite in disagreement on whether one is open (on a
        // full disk, SQLite may undo it by itself): the connection is kept only where that went well.
        let immediate = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        let transaction = connection.begin_with_options(immediate).await;
        let transaction = transaction.map_err(|error| unavailable(failure::explain(&self.path, &error)))?;
        let undone = |error| Undone { error, began: true };
        match self.apply(&transaction, writes).await {
            Ok(written) => {
                transaction
                    .commit()
                    .await
                    .map_err(|error| undone(failure::explain(&self.path, &error)))?;
                self.connection = Some(connection);
                Ok(written)
            }
            Err(error) => {
                if transaction.rollback().await.is_ok() {
                    self.connection = Some(connection);
                }
                Err(undone(error))
            }
        }
    }

    async fn apply(&self, transaction: &DatabaseTransaction, writes: &[&Write]) -> Result<Vec<Written>, MemoryError> {
        let mut written = Vec::with_capacity(writes.len());
        for write in writes {
            written.push(write::apply(&self.path, transaction, write).await?);
        }
        Ok(written)
    }
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
    /// Whether the database had let it begin.
    began: bool,
}

impl Undone {
    fn down(&self) -> Option<String> {
        (!self.began).then(|| self.error.to_string())
    }
}
