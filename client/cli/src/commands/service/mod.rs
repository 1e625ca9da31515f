//! `cove system service` and `cove system watch`: what stands in for a daemon where somebody wants one.
//!
//! The one writes a unit of systemd, the other is what the unit runs ([`watch`]).

mod notify;
mod unit;
mod watch;

use std::path::{Path, PathBuf};

use cove_engine::Places;

use crate::arguments::Service;
use crate::context::Context;
use crate::error::Error;
use unit::{MARK, Unit};

pub use watch::watch;

/// The unit's name.
const NAME: &str = "cove.service";

/// Writes, prints or removes the unit.
pub fn run(context: &Context, arguments: &Service) -> Result<(), Error> {
    if arguments.print && arguments.remove {
        return Err(Error::Options("conflicting options: --print and --remove cannot be used together"));
    }
    let is_root = rustix::process::geteuid().is_root();
    let user = arguments.user || !is_root;
    let unit = unit(context, user)?;
    if arguments.print {
        return Ok(context.printer.text(&unit.text())?);
    }
    let folder = folder(user)?;
    let path = folder.join(NAME);
    let there = match fs_err::read_to_string(&path) {
        Ok(text) if !text.starts_with(MARK) => return Err(Error::ForeignUnit(path)),
        Ok(_) => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error.into()),
    };
    let systemctl = if user { "systemctl --user" } else { "systemctl" };
    if arguments.remove {
        if !there {
            return Err(Error::NoUnit(path));
        }
        fs_err::remove_file(&path)?;
        // What `enable` has made leads nowhere now.
        for target in ["multi-user.target.wants", "default.target.wants"] {
            let _ = std::fs::remove_file(folder.join(target).join(NAME));
        }
        context.printer.line(format!("Removed {}", path.display()))?;
        context.printer.note(format!(
            "If it runs, end it with `{systemctl} stop cove`; that stops the containers. Then: {systemctl} daemon-reload"
        ));
        return Ok(());
    }
    fs_err::create_dir_all(&folder)?;
    fs_err::write(&path, unit.text())?;
    context.printer.line(format!("Created {}", path.display()))?;
    let start = if there { format!("{systemctl} try-restart cove") } else { format!("{systemctl} enable --now cove") };
    context.printer.note(format!("Now: {systemctl} daemon-reload && {start}"));
    if user && !lingers() {
        context.printer.note(
            "Your systemd runs from your first login to your last logout, and your containers with it. To have them from \
             the machine's start on: loginctl enable-linger",
        );
    }
    Ok(())
}

fn unit(context: &Context, user: bool) -> Result<Unit, Error> {
    let (places, usual) = (context.places(), Places::of_this_user());
    let mut options = Vec::new();
    for (option, place, usual) in [("--root", &places.root, &usual.root), ("--run", &places.run, &usual.run)] {
        if place != usual {
            options.extend([option.to_owned(), std::path::absolute(place)?.display().to_string()]);
        }
    }
    let runtime = std::env::var_os("COVE_RUNTIME").filter(|given| !given.is_empty());
    Ok(Unit {
        user,
        program: std::env::current_exe()?,
        options,
        folders: vec![std::path::absolute(&places.root)?],
        runtime: runtime.map(std::path::absolute).transpose()?,
    })
}

/// Where systemd looks for units: the administrator's, or the user's own.
fn folder(user: bool) -> Result<PathBuf, Error> {
    if !user {
        return Ok(PathBuf::from("/etc/systemd/system"));
    }
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let configuration = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
    Ok(configuration.ok_or(Error::NoHome)?.join("systemd/user"))
}

/// Whether the user's systemd runs without a login; where that cannot be told it is taken to be so.
fn lingers() -> bool {
    let folder = Path::new("/var/lib/systemd/linger");
    let user = std::env::var_os("USER").or_else(|| std::env::var_os("LOGNAME"));
    user.is_some_and(|user| folder.join(user).exists())
}
