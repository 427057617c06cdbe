//! A transaction of the writer: [`Transaction`].

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use sea_orm::sea_query::Value;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement};

use super::failure;

/// A transaction; everything written in it stands together or not at all.
pub struct Transaction {
    inner: DatabaseTransaction,
    /// Whether it failed for a reason that passes.
    broken: AtomicBool,
}

impl Transaction {
    pub(super) fn new(inner: DatabaseTransaction) -> Self {
        Self {
            inner,
            broken: AtomicBool::new(false),
        }
    }

    /// Whether something failed in it that may go well in another one: the connection went, or another was in the way.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(super) async fn commit(self) -> Result<(), DbErr> {
        self.inner.commit().await
    }

    pub(super) async fn rollback(self) -> Result<(), DbErr> {
        self.inner.rollback().await
    }

    fn noted<T>(&self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        if let Err(error) = &result
            && failure::passes(self.get_database_backend(), error)
        {
            self.broken.store(true, Ordering::Relaxed);
        }
        result
    }
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.noted(self.inner.execute_raw(fitting(statement)).await)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.noted(self.inner.execute_unprepared(sql).await)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.noted(self.inner.query_one_raw(fitting(statement)).await)
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.noted(self.inner.query_all_raw(fitting(statement)).await)
    }
}

/// The statement with values that its database can hold: text in Postgres has no NUL. Each is replaced by the sign for what
/// can't be shown, in what is written and in what is looked for, so that one finds the other and nothing is lost for it.
pub(super) fn fitting(mut statement: Statement) -> Statement {
    if statement.db_backend == DbBackend::Postgres {
        for value in statement.values.iter_mut().flat_map(|values| &mut values.0) {
            if let Value::String(Some(text)) = value
                && text.contains('\0')
            {
                *text = text.replace('\0', "\u{FFFD}");
            }
        }
    }
    statement
}
