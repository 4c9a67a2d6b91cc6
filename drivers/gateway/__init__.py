"""The gateway: a driver for whatever speaks our own wire, here or on an instrument's PC."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from drivers.errors import DriverRefused
from drivers.gateway.emergency import GatewayEmergency
from drivers.gateway.session import GatewaySession
from drivers.gateway.wire import require_loopback
from drivers.instrument import InstrumentConfig
from drivers.protocols import Emergency, Session
from drivers.vocabulary import Clock


class GatewaySettings(BaseModel):
    """``[drivers.gateway]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str
    """Where the machine listens for commands, e.g. ``tcp://127.0.0.1:5555``."""

    @field_validator("endpoint")
    @classmethod
    def _loopback(cls, endpoint: str) -> str:
        return require_loopback(endpoint)


class GatewayDriver:
    """Opens sessions and emergency connections over the wire."""

    name = "gateway"
    summary = "an instrument served by `probewise serve instrument`, or by a script of yours"
    emulated = False
    settings: type[BaseModel] = GatewaySettings

    def open(self, instrument: InstrumentConfig, clock: Clock) -> Session:
        """Return a session, not yet connected."""
        return GatewaySession(instrument, clock, self._endpoint(instrument))

    def emergency(self, instrument: InstrumentConfig) -> Emergency:
        """Return the way to park; connects on first use."""
        return GatewayEmergency(self._endpoint(instrument))

    def _endpoint(self, instrument: InstrumentConfig) -> str:
        try:
            return GatewaySettings.model_validate(instrument.drivers.get("gateway", {})).endpoint
        except ValidationError as error:
            why = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            name = instrument.instrument.name
            raise DriverRefused(f"instrument '{name}', [drivers.gateway]: {why}") from error


DRIVER = GatewayDriver()
