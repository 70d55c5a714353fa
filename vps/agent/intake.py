"""An order from envelope to journal: verified, checked, written down; then it is the engine's."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from vps.agent.context import Context, report_order
from vps.agent.engine import Engine, target_of
from vps.xen.description import Description, DescriptionRefused
from vps.xen.messages import (
    SCHEMA,
    Generation,
    Head,
    MessageRefused,
    Order,
    Outcome,
    ReportKind,
    TrustedKeys,
    Verb,
)
from vps.xen.names import check_log_name
from vps.xen.trial import read as read_trial
from vps.xen.trying import Try

logger = logging.getLogger(__name__)


_PATIENCE = 5.0  # seconds; the order came from Redis, so its time is about to be heard


class NotYet(Exception):
    """The order cannot be judged at this moment; it waits in the queue."""


class Intake:
    """Takes envelopes. When `accept` returns, the order may be acknowledged."""

    def __init__(self, context: Context, engine: Engine, keys: TrustedKeys) -> None:
        self._context, self._engine, self._keys = context, engine, keys
        self._refused = 0

    def accept(self, envelope: object) -> None:
        """Write an order down, or refuse it. Raises sqlite3.Error when nothing can be written, and NotYet."""
        context = self._context
        if not context.clock.known.wait(_PATIENCE):
            raise NotYet("The time of Redis is not known yet, and with it whether the order comes too late.")
        try:
            value = self._keys.open(envelope)  # type: ignore[arg-type]
            if value.get("dom0") != str(context.config.dom0):
                raise MessageRefused("The order is for another dom0.")
        except MessageRefused as error:
            # Nobody whom this dom0 trusts wrote it, or not to this dom0: there is nobody to answer.
            self._refused += 1
            logger.warning("an order was dropped: %s", error)
            context.alarms["dropped"] = (
                f"{self._refused} orders were dropped since the agent began, lastly: {error}"
            )
            return
        self._keep_head(Head.of(value.get("head")))
        try:
            order = Order.of(value)
        except MessageRefused as error:
            logger.warning("an order was refused: %s", error)
            self._refuse_unread(value, str(error))
            return
        if order.verb is Verb.CANCEL and order.body.get("operation") == str(order.operation):
            # The web cancels under the operation's own id: there is no operation of cancelling.
            if order.not_after >= context.clock.now_ms():
                self._engine.cancel(order.operation, order)
            return
        if context.journal.order(order.operation) is not None:
            logger.info("operation %s is known; its state is told again", order.operation)
            report_order(context, order.operation)
            return
        description: Description | None = None
        refusal: dict[str, str] | None = None
        try:
            description = self._description(order)
        except _Refused as error:
            refusal = {"code": error.code, "text": str(error), "output": ""}
        except ValueError as error:
            refusal = {"code": "form", "text": str(error), "output": ""}
        self._write(order, description, refusal)

    def _keep_head(self, head: Head | None) -> None:
        """Keep the head of the web's chain of events; say it when the web told another one before."""
        if head is not None and (other := self._context.journal.keep_head(head)):
            self._context.alarms["chain"] = (
                f"The web's event {head.seq} has the seal {head.seal[:12]}, and this dom0 was told {other[:12]}: "
                "the events were changed. See manage.py verify_events."
            )

    def _write(self, order: Order, description: Description | None, refusal: dict[str, str] | None) -> None:
        context = self._context
        logger.info(
            "order %s: %s of %s, generation %s, request %s%s",
            order.operation,
            order.verb.value,
            order.domu,
            order.generation.as_list(),
            order.request_id,
            f": refused, {refusal['text']}" if refusal else "",
        )
        state = Outcome.REFUSED if refusal else Outcome.ACCEPTED
        with context.journal.transaction():
            if not context.journal.accept(order, state, context.clock.now_ms(), refusal):
                return
            if description is not None:
                context.journal.describe(description, order.generation)
            report_order(context, order.operation)
        if refusal:
            return
        row = context.journal.order(order.operation)
        assert row is not None
        if order.verb in (Verb.DESTROY, Verb.DELETE):
            self._engine.supersede(row)
        self._engine.take(row)

    def _description(self, order: Order) -> Description | None:
        """The description that the order carries. Raises _Refused."""
        context = self._context
        if order.not_after < context.clock.now_ms():
            raise _Refused("expired", "The order reached the dom0 too late; order it again.")
        if order.verb is Verb.CANCEL:
            target_of(order.body)
            return None
        if order.verb is Verb.LOOK:
            if order.body.get("what") == "log":
                check_log_name(order.body.get("name"))
            return None
        if order.verb is Verb.TRIAL:
            try:
                read_trial(order.operation, order.body)
            except DescriptionRefused as error:
                raise _Refused("description", str(error)) from error
            return None
        if order.domu is None:
            raise _Refused("form", "The order names no server.")
        try:
            description = Description.of(order.body.get("domu"))
        except DescriptionRefused as error:
            raise _Refused("description", str(error)) from error
        if order.verb is Verb.TRY or (order.verb is Verb.ARM and order.body.get("try") is not None):
            try:
                Try.of(order.body.get("try"))
            except DescriptionRefused as error:
                raise _Refused("try", str(error)) from error
        if description.id != order.domu:
            raise _Refused("description", "The order's description is of another server.")
        row = context.journal.domu(order.domu)
        if row is None:
            return description
        if order.generation < row.generation:
            raise _Refused(
                "older",
                f"The order is of generation {order.generation.as_list()}, and the dom0 knows "
                f"{row.generation.as_list()}; look at the server again.",
            )
        if row.deleted and order.verb is not Verb.DELETE:
            raise _Refused("deleted", "The server was deleted on this dom0, and its disks are gone.")
        return description

    def _refuse_unread(self, value: Mapping[str, Any], why: str) -> None:
        """Answer an order that is signed and cannot be read, for example of a newer schema."""
        try:
            operation = UUID(value["operation"])
            generation = Generation.of(value["generation"]).as_list()
        except (KeyError, TypeError, ValueError, AttributeError):
            return
        domu = value.get("domu")
        self._context.outbox.report(
            ReportKind.OPERATION,
            {
                "operation": str(operation),
                "domu": domu if isinstance(domu, str) else None,
                "outcome": Outcome.REFUSED.value,
                "generation": generation,
                "step": "",
                "steps": [],
                "error": {
                    "code": "schema",
                    "text": f"{why} This agent speaks schema {SCHEMA}.",
                    "output": "",
                },
                "remains": "Nothing was done.",
                "result": {},
            },
        )


class _Refused(Exception):
    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
