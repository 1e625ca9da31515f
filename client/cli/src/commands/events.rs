//! `cove events`

use crate::arguments::Events;
use crate::context::Context;
use crate::error::Error;

pub fn run(_: &Context, _: &Events) -> Result<(), Error> {
    Err(Error::Options("to come"))
}
