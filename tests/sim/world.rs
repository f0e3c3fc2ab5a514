//! A world made from one seed: units that depend on each other at random, programs that do what programs do, an operator who
//! changes his mind, and time that jumps to the next thing that happens.

use std::rc::Rc;
use std::time::Duration;

use cellinit::supervisor::*;
use cellinit::unit::*;

use super::checker::{Units, Watched};
use super::units::{probe, unit};

/// What happens before the world calms down and is shut down.
const STEPS: u32 = 24;
/// A shutdown that takes longer than this many steps hangs.
const LAST_STEPS: u32 = 3000;

/// splitmix64.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }

    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.below(most + 1))
    }
}

/// Runs one schedule. With `trace`, says what happens.
pub fn schedule(seed: u64, trace: bool) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let units = Rc::new(random_units(&mut dice));
    let watched = Watched::new(Rc::clone(&units), dice.next());
    let mut world = World { dice, units, watched, coming: Vec::new(), cells: Vec::new(), trace };
    world.run()
}

struct World {
    dice: Dice,
    units: Rc<Units>,
    watched: Watched,
    /// What will happen, in no order.
    coming: Vec<(Time, Event)>,
    cells: Vec<CellInWorld>,
    trace: bool,
}

/// What really goes on in a cell.
struct CellInWorld {
    unit: UnitId,
    run: u64,
    /// A signal ends it; otherwise only SIGKILL does.
    obedient: bool,
    /// Processes stay when the main one is gone.
    leftovers: bool,
    /// It waits for a dead disk: no signal ends it, SIGKILL neither.
    undying: bool,
    /// The next SIGKILL misses a process that is just being forked.
    slippery: bool,
    gone: bool,
    empty: bool,
}

impl World {
    fn run(&mut self) -> Result<(), String> {
        // Debug builds write and read JSON slowly: one schedule in four is enough.
        let saved_at = self.dice.below(u64::from(STEPS) * 4) as u32;
        for step in 0..STEPS {
            self.step(step == 0)?;
            if step == saved_at {
                self.watched.save_and_restore()?;
            }
        }
        self.hand_in(Event::Shutdown)?;
        for _ in 0..LAST_STEPS {
            if self.watched.finished() {
                return Ok(());
            }
            if !self.advance()? {
                return Err("the shutdown waits for nothing".to_owned());
            }
        }
        Err("the shutdown does not end".to_owned())
    }

    fn step(&mut self, first: bool) -> Result<(), String> {
        if first || self.dice.chance(15) {
            let event = self.operator(first);
            return self.hand_in(event);
        }
        if self.dice.chance(6) {
            let event = self.noise();
            return self.hand_in(event);
        }
        if !self.advance()? {
            let event = self.operator(false);
            self.hand_in(event)?;
        }
        Ok(())
    }

    /// Time jumps to what comes next: something in the world, or the machine's own deadline.
    fn advance(&mut self) -> Result<bool, String> {
        let coming = self.coming.iter().map(|(time, _)| *time).min();
        let wake = self.watched.machine.poll_timeout();
        let machine_first = match (coming, wake) {
            (None, None) => return Ok(false),
            (Some(event), Some(wake)) => wake < event || (wake == event && self.dice.chance(50)),
            (None, Some(_)) => true,
            (Some(_), None) => false,
        };
        if machine_first {
            let mut now = wake.unwrap_or_default().max(self.watched.now);
            // A busy host wakes us late.
            if self.dice.chance(10) {
                now = now.after(self.dice.millis(3));
            }
            if self.trace {
                println!("{:>12?} timeout", Duration::from_nanos(now.0));
            }
            let actions = self.watched.timeout(now)?;
            self.perform(actions);
            return Ok(true);
        }
        let ready: Vec<usize> = (0..self.coming.len()).filter(|index| Some(self.coming[*index].0) == coming).collect();
        let index = self.dice.pick(&ready);
        let (time, event) = self.coming.swap_remove(index);
        self.watched.now = self.watched.now.max(time);
        self.hand_in(event)?;
        Ok(true)
    }

    fn hand_in(&mut self, event: Event) -> Result<(), String> {
        let now = self.watched.now;
        if self.trace {
            println!("{:>12?} {event:?}", Duration::from_nanos(now.0));
        }
        let actions = self.watched.event(now, event)?;
        self.perform(actions);
        Ok(())
    }

    fn operator(&mut self, first: bool) -> Event {
        let unit = UnitId(self.dice.below(self.units.list.len() as u64) as u32);
        match self.dice.below(100) {
            _ if first => Event::Start(unit),
            0..45 => Event::Start(unit),
            45..70 => Event::Stop(unit),
            70..97 => Event::Restart(unit),
            _ => Event::Shutdown,
        }
    }

    /// News of runs long gone, of units that never were, and things said twice.
    fn noise(&mut self) -> Event {
        let unit = UnitId(self.dice.below(self.units.list.len() as u64 + 1) as u32);
        let known = (unit.0 as usize) < self.units.list.len();
        let live = if known { self.watched.live_run(unit).unwrap_or(0) } else { 0 };
        let run = if self.dice.chance(70) { live.saturating_sub(1) } else { live + 1 };
        let detail = String::new();
        match self.dice.below(9) {
            0 => Event::Executed { unit, run },
            1 => Event::Ready { unit, run },
            2 => Event::NotifyStopping { unit, run },
            3 => Event::WatchdogPing { unit, run },
            4 => Event::Exited { unit, run, exit: Exit::status(1) },
            5 => Event::Emptied { unit, run },
            6 => Event::Probed { unit, run, probe: ProbeKind::Live, ok: false, detail },
            7 => Event::OomKilled { unit, run },
            _ => Event::Start(UnitId(u32::MAX)),
        }
    }

    fn soon(&mut self, most: u64, event: Event) -> Time {
        let at = self.watched.now.after(self.dice.millis(most));
        self.coming.push((at, event));
        at
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            if self.trace {
                println!("{:>12} {action:?}", "->");
            }
            match action {
                Action::Spawn { unit, run } => self.spawn(unit, run),
                Action::Signal { unit, run, signal, whom } => self.signal(unit, run, signal, whom),
                Action::Kill { unit, run } => self.kill(unit, run),
                Action::Probe { unit, run, probe } => self.probe(unit, run, probe),
                Action::Release { unit, run } => self.cells.retain(|cell| (cell.unit, cell.run) != (unit, run)),
                Action::Changed(_) | Action::Finished => {}
            }
        }
    }

    fn spawn(&mut self, unit: UnitId, run: u64) {
        let cell = CellInWorld {
            unit,
            run,
            obedient: self.dice.chance(75),
            leftovers: self.dice.chance(25),
            undying: self.dice.chance(3),
            slippery: self.dice.chance(10),
            gone: false,
            empty: false,
        };
        self.cells.push(cell);
        if self.dice.chance(10) {
            let failure = StartFailure { step: "bind /x on /y".to_owned(), message: "ENOENT".to_owned() };
            self.soon(20, Event::SpawnFailed { unit, run, failure });
            self.die(unit, run, 20, None);
            return;
        }
        if self.dice.chance(95) {
            self.soon(20, Event::Executed { unit, run });
        }
        if self.dice.chance(80) {
            self.soon(400, Event::Ready { unit, run });
        }
        if self.dice.chance(10) {
            self.soon(600, Event::Ready { unit, run });
        }
        if self.dice.chance(55) {
            let exit = self.random_exit();
            let most = self.dice.pick(&[10, 300, 5000]);
            self.die(unit, run, most, Some(exit));
        }
        if self.dice.chance(5) {
            self.soon(2000, Event::NotifyStopping { unit, run });
        }
        if self.dice.chance(5) {
            self.soon(2000, Event::OomKilled { unit, run });
        }
        for _ in 0..self.dice.below(4) {
            self.soon(2000, Event::WatchdogPing { unit, run });
        }
    }

    fn random_exit(&mut self) -> Exit {
        let exit = match self.dice.below(10) {
            0..5 => Exit::status(0),
            5..8 => Exit::status(1),
            8 => Exit::signal(11),
            _ => Exit::signal(9),
        };
        let hints = [CauseKind::Trap, CauseKind::Fuel, CauseKind::Deadline, CauseKind::Memory, CauseKind::World, CauseKind::Oom];
        if self.dice.chance(15) { exit.hinted(self.dice.pick(&hints)) } else { exit }
    }

    fn cell(&mut self, unit: UnitId, run: u64) -> Option<&mut CellInWorld> {
        self.cells.iter_mut().find(|cell| (cell.unit, cell.run) == (unit, run))
    }

    /// The main process ends within `most` milliseconds; without `exit` the shell has said so already. The cell is empty then,
    /// unless something stays in it.
    fn die(&mut self, unit: UnitId, run: u64, most: u64, exit: Option<Exit>) {
        let Some(cell) = self.cell(unit, run).filter(|cell| !cell.gone) else {
            return;
        };
        cell.gone = true;
        let stays = cell.leftovers && exit.is_some();
        let mut at = self.watched.now.after(Duration::from_millis(most));
        if let Some(exit) = exit {
            at = self.soon(most, Event::Exited { unit, run, exit });
        }
        if !stays {
            self.empty(unit, run, at);
        }
    }

    fn empty(&mut self, unit: UnitId, run: u64, from: Time) {
        let later = self.dice.millis(5);
        if let Some(cell) = self.cell(unit, run).filter(|cell| !cell.empty) {
            cell.empty = true;
            self.coming.push((from.after(later), Event::Emptied { unit, run }));
        }
    }

    fn signal(&mut self, unit: UnitId, run: u64, signal: i32, whom: Whom) {
        let Some(cell) = self.cell(unit, run) else {
            return;
        };
        if !cell.obedient || cell.undying {
            return;
        }
        if whom == Whom::Cell {
            cell.leftovers = false;
        }
        let exit = if self.dice.chance(50) { Exit::signal(signal) } else { Exit::status(0) };
        self.die(unit, run, 100, Some(exit));
    }

    fn kill(&mut self, unit: UnitId, run: u64) {
        let now = self.watched.now;
        let Some(cell) = self.cell(unit, run) else {
            return;
        };
        if cell.undying || std::mem::take(&mut cell.slippery) {
            return;
        }
        cell.leftovers = false;
        if cell.gone {
            // An exit that is on its way is seen before the cell is empty.
            let exit = self.coming.iter().filter(|(_, event)| is_exit(event, unit, run)).map(|(time, _)| *time).max();
            self.empty(unit, run, exit.unwrap_or(now));
        } else {
            self.die(unit, run, 5, Some(Exit::signal(9)));
        }
    }

    fn probe(&mut self, unit: UnitId, run: u64, probe: ProbeKind) {
        let gone = self.cell(unit, run).is_none_or(|cell| cell.gone);
        if self.dice.chance(7) {
            return;
        }
        let ok = !gone && self.dice.chance(70);
        self.soon(90, Event::Probed { unit, run, probe, ok, detail: "said so".to_owned() });
    }
}

fn is_exit(event: &Event, unit: UnitId, run: u64) -> bool {
    matches!(event, Event::Exited { unit: u, run: r, .. } if (*u, *r) == (unit, run))
}

/// One to eight units, named in the order of their ids.
fn random_units(dice: &mut Dice) -> Units {
    let count = 1 + dice.below(8).min(dice.below(8)) as usize;
    let names: Vec<String> = (0..count).map(|index| char::from(b'a' + index as u8).to_string()).collect();
    // Dependencies go down this order, which is not the order of the names.
    let mut order: Vec<usize> = (0..count).collect();
    for index in (1..count).rev() {
        order.swap(index, dice.below(index as u64 + 1) as usize);
    }
    let mut list: Vec<Unit> = names.iter().map(|name| random_unit(dice, name)).collect();
    let mut acyclic = true;
    for (place, index) in order.iter().enumerate() {
        for earlier in &order[..place] {
            connect(dice, &mut list, *index, *earlier);
        }
        // Now and then a requirement that runs in a circle: allowed, since it orders nothing.
        if dice.chance(2)
            && let Some(later) = order.get(place + 1)
        {
            list[*index].requires.push(names[*later].clone());
            acyclic = false;
        }
    }
    Units { list, acyclic }
}

fn connect(dice: &mut Dice, list: &mut [Unit], from: usize, to: usize) {
    let (name, other) = (list[from].name.clone(), list[to].name.clone());
    match dice.below(20) {
        0..2 => list[from].requires.push(other),
        2 => list[from].wants.push(other),
        3 => list[from].after.push(other),
        4 => list[to].before.push(name),
        5 => {
            list[from].requires.push(other.clone());
            list[from].after.push(other);
        }
        6..9 => {
            let conditions = [Condition::Started, Condition::Ready, Condition::Healthy, Condition::Completed];
            let timeout = dice.chance(40).then(|| dice.millis(1000));
            list[from].depends.push(Depends { unit: other, condition: dice.pick(&conditions), timeout });
        }
        9 if dice.chance(30) => list[from].conflicts.push(other),
        _ => {}
    }
}

fn random_unit(dice: &mut Dice, name: &str) -> Unit {
    let mut unit = unit(name);
    if dice.chance(10) {
        unit.kind = Kind::Target;
        unit.payload = Payload::None;
        return unit;
    }
    let actions = [ProbeAction::None, ProbeAction::Restart, ProbeAction::Stop, ProbeAction::Kill, ProbeAction::Degrade];
    let mut random_probe = |percent: u64| {
        dice.chance(percent).then(|| {
            let interval = Duration::from_millis(1 + dice.below(200));
            let counts = (1 + dice.below(3) as u32, 1 + dice.below(2) as u32);
            let mut probe = probe(interval, dice.millis(80), counts.0, counts.1, dice.pick(&actions));
            probe.start_period = dice.millis(100);
            Box::new(probe)
        })
    };
    unit.health.startup = random_probe(10);
    unit.health.live = random_probe(15);
    unit.health.ready = random_probe(15);
    unit.service.ready = dice.pick(&[
        Ready::Spawned,
        Ready::Exec,
        Ready::Exec,
        Ready::Notify,
        Ready::Notify,
        Ready::Fd(3),
        Ready::Completed,
        Ready::Completed,
    ]);
    if unit.health.startup.is_some() || unit.health.ready.is_some() {
        unit.service.ready = dice.pick(&[Ready::Health, unit.service.ready]);
    }
    if unit.service.ready == Ready::Completed {
        unit.kind = Kind::Job;
    }
    unit.service.start_timeout = dice.chance(80).then(|| dice.millis(500));
    unit.watchdog = dice.chance(15).then(|| Duration::from_millis(1 + dice.below(300)));
    unit.stop.timeout = dice.chance(85).then(|| dice.millis(200));
    unit.stop.mode = dice.pick(&[StopMode::Cell, StopMode::Mixed, StopMode::Main, StopMode::None]);
    unit.oom_policy = dice.pick(&[OomPolicy::Continue, OomPolicy::Stop, OomPolicy::KillCell]);
    let restart = &mut unit.restart;
    restart.policy = dice.pick(&[
        RestartPolicy::No,
        RestartPolicy::Always,
        RestartPolicy::OnSuccess,
        RestartPolicy::OnFailure,
        RestartPolicy::OnAbnormal,
        RestartPolicy::UnlessStopped,
    ]);
    let kinds = [CauseKind::Exit, CauseKind::Signal, CauseKind::Health, CauseKind::Dependency, CauseKind::Start];
    if dice.chance(20) {
        restart.on.push(dice.pick(&kinds));
    }
    if dice.chance(20) {
        restart.never_on.push(dice.pick(&kinds));
    }
    restart.delay = dice.pick(&[Duration::ZERO, Duration::from_millis(1), Duration::from_millis(100)]);
    restart.factor = dice.pick(&[0.0, 1.0, 1.5, 2.0]);
    restart.max_delay = dice.pick(&[Duration::ZERO, Duration::from_millis(50), Duration::from_secs(2)]);
    restart.jitter_permille = dice.pick(&[0, 100, 500, 1000]);
    restart.reset_after = dice.millis(1000);
    restart.attempts = dice.chance(50).then(|| dice.below(5) as u32);
    restart.window = dice.millis(5000);
    unit
}
