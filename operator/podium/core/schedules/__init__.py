"""Schedules: cron in a time zone, which runs to make, and where each schedule stands."""

from podium.core.schedules.cron import InvalidSchedule, parse_cron
from podium.core.schedules.decide import Seen, decide_schedules
from podium.core.schedules.runs import Ticket, ticket_of
from podium.core.schedules.status import is_settled, room_beside_schedules, without_schedules

__all__ = [
    "InvalidSchedule",
    "Seen",
    "Ticket",
    "decide_schedules",
    "is_settled",
    "parse_cron",
    "room_beside_schedules",
    "ticket_of",
    "without_schedules",
]
