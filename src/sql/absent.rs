//! What stands for SQLite in a program without the feature `sql`. Such a node can be part of a cluster that keeps to
//! keys and values; clients are refused SQL by it, and SQL in the log ends it.

use std::ops::ControlFlow;

use crate::store::digest::Digest;

use super::pages::Pages;
use super::value::{Moment, Page, Rows, SqlValue, Statement, View};

const ABSENT: &str = "this program is built without SQL (the feature `sql`)";

#[derive(Debug, Default)]
pub struct Database(Pages);

impl Database {
    pub fn new(pages: Pages) -> Database {
        Database(pages)
    }

    pub fn pages(&self) -> Pages {
        self.0.clone()
    }

    pub fn digest(&self) -> Digest {
        self.0.digest()
    }

    pub fn settle(&mut self) {
        self.0.settle();
    }

    pub fn begin(&mut self, _moment: Moment) {
        panic!("there is SQL in the log, and {ABSENT}");
    }

    pub fn run(&mut self, _statement: &Statement<'_>) -> Result<Rows, String> {
        Err(ABSENT.to_owned())
    }

    pub fn commit(&mut self) -> Result<(), String> {
        Err(ABSENT.to_owned())
    }

    pub fn roll_back(&mut self) {}
}

#[derive(Debug, Default)]
pub struct Reader;

impl Reader {
    pub fn query(
        &mut self,
        _view: View<'_>,
        _statement: &Statement<'_>,
        _skip: u64,
    ) -> Result<Page, String> {
        Err(ABSENT.to_owned())
    }

    pub fn each(
        &mut self,
        _view: View<'_>,
        _statement: &Statement<'_>,
        _skip: u64,
        _take: &mut dyn FnMut(Vec<SqlValue>) -> Result<ControlFlow<()>, String>,
    ) -> Result<Rows, String> {
        Err(ABSENT.to_owned())
    }
}
