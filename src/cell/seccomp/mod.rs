//! From a resolved policy to BPF, by libseccomp: once per unit, since it is most of what a start would otherwise cost; and not
//! at all for the policies of most units, whose programs are part of this one ([`ready`]).

mod ready;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::hash::Hash;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::rc::Rc;

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::plan::syscalls::{Filter, Limit, Others, resolve};
use crate::sys::seccomp::Program;
use crate::unit::Seccomp;

use super::Error;

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET, as in Docker's profile. CLONE_NEWTIME is no flag of
/// clone(2): its bit is part of the exit signal there.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// PER_LINUX, PER_LINUX32, UNAME26, PER_LINUX32 | UNAME26, and the question what it is.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
const AF_UNIX: u64 = libc::AF_UNIX as u64;
const AF_INET: u64 = libc::AF_INET as u64;
const AF_INET6: u64 = libc::AF_INET6 as u64;
const AF_NETLINK: u64 = libc::AF_NETLINK as u64;
const NETLINK_ROUTE: u64 = libc::NETLINK_ROUTE as u64;

const SET_ID: u64 = (libc::S_ISUID | libc::S_ISGID) as u64;
/// O_CREAT, and what O_TMPFILE has besides O_DIRECTORY.
const MAKING: u64 = (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u64;

/// A binary tree over the numbers: a call passes 9 comparisons on its way and not 300.
const BINARY_TREE: u32 = 2;
/// Numbers from here on are those of the x32 ABI.
const X32_BIT: u32 = 0x4000_0000;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

thread_local! {
    /// Most units have the policy of most others: each is compiled once, and the latest are kept.
    static COMPILED: RefCell<VecDeque<(Seccomp, Rc<Program>)>> = const { RefCell::new(VecDeque::new()) };
}
const KEPT: usize = 16;

/// The program that a cell installs as its last step; the same one for the same policy.
pub fn program(policy: &Seccomp) -> Result<Rc<Program>, Error> {
    let known = COMPILED.with_borrow(|kept| kept.iter().find(|(other, _)| other == policy).map(|(_, program)| Rc::clone(program)));
    if let Some(program) = known {
        return Ok(program);
    }
    let orders = Orders::of(policy)?;
    let program = Rc::new(ready::find(&orders).map_or_else(|| orders.compile(), Ok)?);
    COMPILED.with_borrow_mut(|kept| {
        kept.truncate(KEPT - 1);
        kept.push_front((policy.clone(), Rc::clone(&program)));
    });
    Ok(program)
}

/// From names to instructions: some milliseconds.
pub fn compile(policy: &Seccomp) -> Result<Program, Error> {
    Orders::of(policy)?.compile()
}

/// From numbers to instructions, which may be ready.
pub fn assemble(filter: &Filter) -> Result<Program, Error> {
    let orders = Orders::from(filter);
    ready::find(&orders).map_or_else(|| orders.compile(), Ok)
}

/// Whether there is nothing to compile for this filter.
pub fn is_ready(filter: &Filter) -> bool {
    ready::find(&Orders::from(filter)).is_some()
}

/// From numbers to instructions, whatever is ready.
pub fn compile_filter(filter: &Filter) -> Result<Program, Error> {
    Orders::from(filter).compile()
}

/// The file by which a program becomes part of this one: for the test that keeps those files.
pub fn ready_file(filter: &Filter) -> Result<Vec<u8>, Error> {
    let orders = Orders::from(filter);
    Ok(ready::file(&orders, &orders.compile()?))
}

/// All that a program comes of. Two policies with the same orders have the same program.
#[derive(Hash)]
struct Orders {
    others: ScmpAction,
    wrong_architecture: ScmpAction,
    rules: Vec<Rule>,
    prologue: Vec<u8>,
}

/// Of the alternatives each is enough; in each all must hold. None at all is no condition.
#[derive(Hash)]
struct Rule {
    action: ScmpAction,
    call: ScmpSyscall,
    alternatives: Vec<Vec<ScmpArgCompare>>,
}

impl From<&Filter> for Orders {
    fn from(filter: &Filter) -> Self {
        let (others, wrong_architecture) = match &filter.others {
            Others::Refuse { errno, .. } => (ScmpAction::Errno(*errno), ScmpAction::KillProcess),
            Others::Log => (ScmpAction::Log, ScmpAction::Log),
        };
        // By number: libseccomp 2.5 does not know the names of the last years.
        let call = |number: u32| ScmpSyscall::from_raw_syscall(number as i32);
        let allowed = filter.rules.iter().map(|rule| Rule {
            action: ScmpAction::Allow,
            call: call(rule.number),
            alternatives: rule.limit.map(alternatives).unwrap_or_default(),
        });
        let unassigned = match &filter.others {
            Others::Refuse { errno, unassigned, .. } if *errno != libc::ENOSYS => &unassigned[..],
            _ => &[],
        };
        let unassigned =
            unassigned.iter().map(|number| Rule { action: ScmpAction::Errno(libc::ENOSYS), call: call(*number), alternatives: Vec::new() });
        Orders { others, wrong_architecture, rules: allowed.chain(unassigned).collect(), prologue: prologue(&filter.others) }
    }
}

impl Orders {
    fn of(policy: &Seccomp) -> Result<Self, Error> {
        resolve(policy).map(|filter| Orders::from(&filter)).map_err(|fault| Error::Filter(fault.to_string()))
    }
    fn compile(&self) -> Result<Program, Error> {
        let context = self.context().map_err(|error| Error::Filter(error.to_string()))?;
        let mut bytes = self.prologue.clone();
        bytes.extend(export(&context)?);
        Program::from_bytes(&bytes).ok_or_else(|| Error::Filter("longer than the kernel takes".to_string()))
    }

    fn context(&self) -> Result<ScmpFilterContext, SeccompError> {
        let mut context = ScmpFilterContext::new(self.others)?;
        context.set_act_badarch(self.wrong_architecture)?;
        context.set_ctl_optimize(BINARY_TREE)?;
        for rule in &self.rules {
            if rule.alternatives.is_empty() {
                context.add_rule(rule.action, rule.call)?;
            }
            for arguments in &rule.alternatives {
                context.add_rule_conditional(rule.action, rule.call, arguments)?;
            }
        }
        Ok(context)
    }
}

/// The comparisons are of 64 bits, so that nothing hides in the upper half.
fn alternatives(limit: Limit) -> Vec<Vec<ScmpArgCompare>> {
    let equal = |argument, value| ScmpArgCompare::new(argument, ScmpCompareOp::Equal, value);
    let without = |argument, bits| ScmpArgCompare::new(argument, ScmpCompareOp::MaskedEqual(bits), 0);
    match limit {
        Limit::NoNamespaces => vec![vec![without(0, CLONE_NAMESPACES)]],
        Limit::PlainPersonality => PERSONALITIES.iter().map(|value| vec![equal(0, *value)]).collect(),
        Limit::CommonFamilies => vec![
            vec![equal(0, AF_UNIX)],
            vec![equal(0, AF_INET)],
            vec![equal(0, AF_INET6)],
            vec![equal(0, AF_NETLINK), equal(2, NETLINK_ROUTE)],
        ],
        Limit::UnixFamily => vec![vec![equal(0, AF_UNIX)]],
        Limit::PlainMode(mode) => vec![vec![without(mode, SET_ID)]],
        Limit::PlainCreation(flags) => vec![vec![without(flags, MAKING)], vec![without(flags + 1, SET_ID)]],
    }
}

/// libseccomp has no rule for "every number above the last": these six instructions go before its program. They send numbers
/// between the last known call and x32 home with ENOSYS, and leave everything else to it.
fn prologue(others: &Others) -> Vec<u8> {
    let Others::Refuse { last, .. } = others else {
        return Vec::new();
    };
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const GREATER: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
    const NOT_LESS: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    // Offsets of struct seccomp_data: the number at 0, the architecture at 4.
    let program: [(u32, u8, u8, u32); 6] = [
        (LOAD, 0, 0, 4),
        (EQUAL, 0, 4, AUDIT_ARCH_X86_64),
        (LOAD, 0, 0, 0),
        (GREATER, 0, 2, *last),
        (NOT_LESS, 1, 0, X32_BIT),
        (RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
    ];
    let instruction = |(code, jt, jf, k): (u32, u8, u8, u32)| {
        let [a, b] = (code as u16).to_ne_bytes();
        let [w, x, y, z] = k.to_ne_bytes();
        [a, b, jt, jf, w, x, y, z]
    };
    program.into_iter().flat_map(instruction).collect()
}

/// libseccomp writes to a descriptor only.
fn export(context: &ScmpFilterContext) -> Result<Vec<u8>, Error> {
    let failed = |reason: String| Error::Filter(reason);
    let memory = memfd_create("seccomp", MFdFlags::MFD_CLOEXEC).map_err(|errno| failed(errno.to_string()))?;
    context.export_bpf(memory.as_fd()).map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    let mut file = File::from(memory);
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(|error| failed(error.to_string()))?;
    Ok(bytes)
}
