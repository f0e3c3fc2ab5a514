//! The short way to a payload without walls: a clone that runs in the supervisor's memory, beside the supervisor, until execve(2).
//!
//! fork(2) copies what the supervisor holds, which grows with the number of units: memory, and descriptors. This way copies
//! neither, and what holds the clone up (a program on a mount whose server is gone) does not hold up the supervisor. It is not for
//! everybody: who has another user on the way could be looked into by that user's processes, and with it the supervisor; and
//! where a limit on memory is hit, the kernel kills all who share the memory of its victim (mm/oom_kill.c).

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::close;

use crate::cell::perform::Act;
use crate::cell::spawn::{Birth, Way};
use crate::plan::{Namespaces, Plan};
use crate::sys::Result;
use crate::sys::fd::replace;
use crate::sys::process::{Clone3, set_dumpable};
use crate::sys::shared::{Berth, Cloned, Progress};

/// How many pads there are, and how many descriptors each has room for. While a machine boots no clone leaves before all first
/// units have theirs (`init::boot`), and most of them have three streams and a report.
const PADS: [(usize, usize); 3] = [(8, 4), (4, 12), (52, 4)];
/// Pads whose memory is kept while nobody is on any.
const KEPT: usize = 2;
/// How long the supervisor may wait for the last of them, when it is ahead of them all: many times what one takes. Whoever takes
/// longer is held up by something, and is never waited for again.
const PATIENCE: Duration = Duration::from_millis(5);

pub struct Launchpad {
    pads: RefCell<Vec<Pad>>,
    /// Of the last clone, until it has been waited for, and what its pad has room for.
    last: RefCell<Option<(Arc<Progress>, usize)>>,
    /// This memory is not dumpable, for somebody shares it who may lose rights on the way: who has no more rights than he must not
    /// look into us.
    shielded: Cell<bool>,
    idle: OwnedFd,
}

/// A berth, and low descriptor numbers: the kernel copies descriptors from 0 up to the highest that is wanted.
struct Pad {
    /// Made when it is needed.
    berth: Option<Berth>,
    slots: Rc<[OwnedFd]>,
    /// Slots that hold what the clone has not taken yet.
    lent: usize,
}

impl Launchpad {
    /// To be made early, while low numbers are free.
    pub fn new() -> std::io::Result<Launchpad> {
        let idle: OwnedFd = std::fs::File::open("/dev/null")?.into();
        let mut pads = Vec::new();
        for slots in PADS.into_iter().flat_map(|(pads, slots)| std::iter::repeat_n(slots, pads)) {
            let slots = (0..slots).map(|_| idle.try_clone()).collect::<std::io::Result<_>>()?;
            pads.push(Pad { berth: None, slots, lent: 0 });
        }
        // The others are for who needs them; and of the small ones the low come first.
        pads.sort_by_key(|pad| pad.slots.len());
        Ok(Launchpad { pads: RefCell::new(pads), last: RefCell::default(), shielded: Cell::new(false), idle })
    }

    /// Makes the table of descriptors as large as it will have to be. The kernel cannot let it grow while a clone shares it without
    /// waiting some milliseconds for every processor; expand_fdtable() in fs/file.c.
    pub fn make_room(&self, descriptors: RawFd) {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| RawFd::try_from(soft).unwrap_or(RawFd::MAX));
        if let Ok(highest) = fcntl(&self.idle, FcntlArg::F_DUPFD_CLOEXEC(descriptors.min(limit).saturating_sub(1))) {
            close(highest).ok();
        }
    }

    /// Takes back what clones do not need any more. Whoever waits for the end of a descriptor must not wait for us: so this is
    /// called when a clone says that it has its own, and when a child has died.
    pub fn collect(&self) {
        let mut pads = self.pads.borrow_mut();
        for pad in pads.iter_mut() {
            if pad.lent > 0 && pad.progress().is_none_or(|progress| progress.is_apart()) {
                let lent = pad.slots.iter().take(pad.lent);
                let taken_back = lent.map(|slot| replace(slot, self.idle.as_fd())).all(|replaced| replaced.is_ok());
                pad.lent = if taken_back { 0 } else { pad.lent };
            }
            if let Some(berth) = &mut pad.berth {
                berth.clear();
            }
        }
        if self.shielded.get() && pads.iter().all(|pad| pad.progress().is_none()) {
            self.shielded.set(false);
            pads.iter_mut().skip(KEPT).for_each(|pad| pad.berth = None);
            set_dumpable(true).unwrap_or_else(|error| tracing::warn!(%error, "the supervisor cannot be debugged any more"));
        }
    }

    /// `Err`: there is no room.
    pub(super) fn clone3(
        &self,
        request: Clone3<'_>,
        descriptors: &[BorrowedFd<'_>],
        mut birth: Birth,
    ) -> std::result::Result<Result<Cloned>, Box<Birth>> {
        if !self.has_any(descriptors.len(), |_| true) {
            return Err(Box::new(birth));
        }
        self.collect();
        if !self.has_any(descriptors.len(), Pad::is_free)
            && self.last.borrow_mut().take_if(|(_, room)| *room >= descriptors.len()).is_some_and(|(last, _)| last.wait(PATIENCE))
        {
            self.collect();
        }
        let mut pads = self.pads.borrow_mut();
        let Some(pad) = pads.iter_mut().find(|pad| pad.is_free() && pad.has_room(descriptors.len())) else { return Err(Box::new(birth)) };
        let (end, room) = (pad.end(), pad.slots.len());
        let berth = match pad.berth.take().map_or_else(Berth::new, Ok) {
            Ok(berth) => pad.berth.insert(berth),
            Err(_) => return Err(Box::new(birth)),
        };
        pad.lent = descriptors.len();
        let placed = pad.slots.iter().zip(descriptors).try_for_each(|(slot, fd)| replace(slot, *fd));
        let (slots, count) = (Rc::clone(&pad.slots), pad.lent);
        let child = Box::new(move || birth.live(slots.get(..count).unwrap_or_default(), Way::Short));
        let shield = if self.shielded.replace(true) { Ok(()) } else { set_dumpable(false) };
        let cloned = placed.and(shield).and_then(|()| berth.clone3(request, end, child));
        drop(pads);
        self.last.replace(cloned.as_ref().ok().map(|(_, _, progress)| (Arc::clone(progress), room)));
        if cloned.is_err() {
            self.collect();
        }
        Ok(cloned)
    }

    fn has_any(&self, descriptors: usize, such: impl Fn(&Pad) -> bool) -> bool {
        self.pads.borrow().iter().any(|pad| pad.has_room(descriptors) && such(pad))
    }
}

impl Pad {
    fn is_free(&self) -> bool {
        self.lent == 0 && self.progress().is_none()
    }

    fn has_room(&self, descriptors: usize) -> bool {
        descriptors <= self.slots.len()
    }

    /// Of whoever is on it.
    fn progress(&self) -> Option<&Arc<Progress>> {
        self.berth.as_ref().and_then(Berth::progress)
    }

    /// Above its highest slot.
    fn end(&self) -> RawFd {
        self.slots.iter().map(AsRawFd::as_raw_fd).max().unwrap_or(0).saturating_add(1)
    }
}

/// Whether this plan changes nothing but its own process, whose user is the supervisor's.
pub fn is_plain(plan: &Plan, acts: &[Act]) -> bool {
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let alone = acts.iter().all(|act| match act {
        Act::SetIds(who) => (who.uid, who.gid) == own,
        Act::Execute(_)
        | Act::ChangeDirectory(_)
        | Act::NewSession
        | Act::ShieldSetup
        | Act::SetRlimit(_)
        | Act::SetUmask(_)
        | Act::LimitCapabilities(_)
        | Act::NoNewPrivileges
        | Act::PlaceDescriptors
        | Act::ResetSignals(_)
        | Act::InstallSeccomp(_) => true,
        _ => false,
    });
    let limits = &plan.cgroup.limits;
    // Who is throttled could be so with a lock on the memory that we share.
    let throttled = limits.cpu_max_milli.is_some() || limits.cpu_weight.is_some();
    alone && !throttled && limits.memory_max.is_none() && limits.memory_high.is_none() && plan.born == Namespaces::default()
}

#[cfg(test)]
mod tests {
    use crate::cell::facts::{Places, gather};

    #[test]
    fn only_who_changes_nothing_but_itself_shares_memory() {
        let places = Places::imagined();
        let is_plain = |more: &str| {
            let text = format!("[service]\nexec = [\"/bin/true\"]\n[isolation]\nprofile = \"none\"\n{more}");
            let unit = crate::unit::parse("x.toml".as_ref(), &text).unwrap();
            let facts = gather(&places, [&unit]);
            let plan = crate::plan::build(&unit, &facts, &crate::plan::Slot { index: 0 }.into()).unwrap();
            crate::cell::prepare(&plan).unwrap().plain
        };
        assert!(is_plain(""));
        assert!(is_plain("[limits]\nnofile = 99\n"));
        assert!(is_plain("[resources.pids]\nmax = 5\n"));
        let walls = [
            "[user]\nuser = 12345\n",
            "[user]\nuser = \"root\"\ngroup = 12345\n",
            "[resources.memory]\nmax = \"64MiB\"\n",
            "[resources]\ncpu = { max = \"50%\" }\n",
            "uts = \"private\"\n",
            "[oom]\nscore = 1\n",
        ];
        for walls in walls {
            assert!(!is_plain(walls), "{walls}");
        }
    }
}
