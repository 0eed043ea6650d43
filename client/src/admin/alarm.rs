//! Alarms.

use etcd_watch_proto::etcdserverpb as pb;

/// What an alarm says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlarmKind {
    /// A member's database has reached its quota (`NOSPACE`): the cluster refuses puts and grants of leases until the
    /// alarm is disarmed, with [`Refusal::NoSpace`](crate::Refusal::NoSpace).
    NoSpace,
    /// A member's data differ from the others' (`CORRUPT`): the cluster serves nothing until the alarm is disarmed.
    Corrupt,
    /// One that this crate doesn't know, by its number in `AlarmType`.
    Other(i32),
}

impl AlarmKind {
    pub(super) fn number(self) -> i32 {
        match self {
            Self::NoSpace => pb::AlarmType::Nospace.into(),
            Self::Corrupt => pb::AlarmType::Corrupt.into(),
            Self::Other(number) => number,
        }
    }
}

/// An alarm that is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Alarm {
    member_id: u64,
    kind: AlarmKind,
}

impl Alarm {
    /// The alarm of this kind about this member, to be raised or disarmed.
    #[must_use]
    pub fn new(member_id: u64, kind: AlarmKind) -> Self {
        Self { member_id, kind }
    }

    /// The id of the member that it is about.
    #[must_use]
    pub fn member_id(&self) -> u64 {
        self.member_id
    }

    /// What it says.
    #[must_use]
    pub fn kind(&self) -> AlarmKind {
        self.kind
    }
}

impl From<pb::AlarmMember> for Alarm {
    fn from(alarm: pb::AlarmMember) -> Self {
        let kind = match pb::AlarmType::try_from(alarm.alarm) {
            Ok(pb::AlarmType::Nospace) => AlarmKind::NoSpace,
            Ok(pb::AlarmType::Corrupt) => AlarmKind::Corrupt,
            Ok(pb::AlarmType::None) | Err(_) => AlarmKind::Other(alarm.alarm),
        };
        Self { member_id: alarm.member_id, kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alarm_is_the_same_there_and_back() {
        for (number, kind) in [(1, AlarmKind::NoSpace), (2, AlarmKind::Corrupt), (9, AlarmKind::Other(9))] {
            let alarm = Alarm::from(pb::AlarmMember { member_id: 7, alarm: number });
            assert_eq!((alarm, alarm.kind().number()), (Alarm::new(7, kind), number));
        }
    }
}
