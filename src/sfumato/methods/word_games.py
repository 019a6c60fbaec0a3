"""What the methods over words as players share: their options, playing the game of a prompt, and its nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from PIL import Image

from sfumato.caching.cache import Cache, default_folder
from sfumato.caching.images import Generation, Generator
from sfumato.games.axioms import check_axioms
from sfumato.games.estimators.planning import Floats, Plan
from sfumato.games.players import Group, Player, players_of
from sfumato.games.playing import Played, play
from sfumato.games.values import Drop, PromptValue
from sfumato.methods.costs import runs
from sfumato.metrics import bootstrap
from sfumato.models.lexicon import pos
from sfumato.models.model import Model
from sfumato.models.words import Tokens, split
from sfumato.option_values import BATCH, COALITIONS
from sfumato.progress import Progress
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.images import image_node, single
from sfumato.results.importance import half_width
from sfumato.results.meaning import IMPORTANCE
from sfumato.similarity import MEASURES, similarity
from sfumato.similarity.judges import JUDGED

THUMBNAIL = 96


@dataclass(frozen=True)
class WordGameOptions:
    """Options of every method over words as players."""

    similarity: str = field(
        default="clip",
        metadata={"choices": tuple(MEASURES), "help": "how images are compared: clip, vae, latent, ssim or features"},
    )
    similarity_model: str | None = field(
        default=None,
        metadata={"disk": "model", "help": f"{JUDGED}; of an image model for 'features'"},
    )
    players: Group = field(
        default="word", metadata={"help": "what can be missing: word, token, or phrase (a noun and its adjectives)"}
    )
    drop: Drop = field(default="remove", metadata={"help": "remove a missing word, or blank it by padding"})
    budget: int | None = field(
        default=None, metadata=COALITIONS | {"help": "most coalitions, which is most generations for each seed"}
    )
    at_once: int = field(default=8, metadata=BATCH | {"help": "images that are made together"})
    cache: bool = field(
        default=True, metadata={"disk": "cache", "help": "keep generations on disk, so that a rerun makes none"}
    )


@dataclass(frozen=True)
class WordGame:
    """The game of one request, played once for each of its seeds.

    Attributes:
        players: The words.
        played: One for each seed; all of the same plan.
        values: What gave the values: it holds the images.
        generator: What made the images.
    """

    players: tuple[Player, ...]
    played: list[Played]
    values: list[PromptValue]
    generator: Generator


def generations(
    model: Model, request: CompletedRequest, options: WordGameOptions, planned: Callable[[int], Plan]
) -> str:
    """The cost of a game in words, counting players without knowing the tokenizer (a word as one token)."""
    words = tuple(replace(word, tokens=(0,)) for word in split(request.prompt, pos))
    if not words:
        return "no generation: the prompt has no words"
    players = players_of(Tokens(words, (), 0), options.players)
    count = len(planned(len(players)).coalitions) * request.images
    kept = ", fewer where cached" if options.cache else ""
    return f"at most {runs(model, request, count)}{kept}"


def play_words(
    model: Model,
    request: CompletedRequest,
    options: WordGameOptions,
    planned: Callable[[int], Plan],
    progress: Progress,
) -> WordGame:
    """Play the game of a request.

    Args:
        model: The model.
        request: Its images are the seeds.
        options: What a missing word and a value are.
        planned: Gives the plan for a number of players.
        progress: Told about coalitions.

    Raises:
        RequestError: The prompt has no words.
    """
    players = players_of(model.tokens(request.prompt), options.players)
    measure = similarity(options.similarity, model, options.similarity_model)
    generator = Generator(model, Cache(default_folder() if options.cache else None), options.at_once)
    plan = planned(len(players))
    played, values = [], []
    for number in range(request.images):
        value = PromptValue(generator, request.of_image(number), players, measure, options.drop)

        def told(what: str, done: int, total: int, before: int = number) -> None:
            progress("images of coalitions", before * total + done, request.images * total)

        names = tuple(player.name for player in players)
        played.append(play(value, plan, players=names, batch=options.at_once, progress=told))
        values.append(value)
    return WordGame(players, played, values, generator)


def game_explanation(name: str, request: CompletedRequest, game: WordGame, attrs: dict[str, Any]) -> Explanation:
    """The explanation of a game: its nodes lie under the method's name.

    Args:
        name: Of the method.
        request: What was explained.
        game: As it was played.
        attrs: What else a reader of the importance should know.
    """
    measure = game.values[0].similarity
    whole = np.ones(len(game.players), bool).tobytes()
    node = {
        "image": image_node([value.images[whole].pixels for value in game.values], request.seeds),
        f"{name}/word_importance": _importance(name, game, attrs),
        f"{name}/coalitions": _coalitions(name, game),
    }
    if request.images > 1:
        node[f"{name}/over_seeds"] = _over_seeds(name, game)
    interactions = [played.estimate.interactions for played in game.played]
    if all(found is not None for found in interactions) and len(game.players) > 1:
        node[f"{name}/interactions"] = _interactions(name, game, np.stack([i for i in interactions if i is not None]))
    extra = {
        "similarity": {"name": measure.name, "source": measure.source},
        "generations": {"made": game.generator.made, "from_cache": game.generator.recalled},
        "notes": measure.notes,
    }
    return Explanation(xr.DataTree.from_dict(node), request, extra)


def shares(phi: Floats, margin: ArrayLike = 0.0) -> Floats:
    """Worths divided by their sum; NaN where the sum is not clearly above 0, since they then share nothing.

    Args:
        phi: (..., player).
        margin: (...,) half of the 95% interval of the sum, 0 where it has no error; the sum is above 0 if it is larger.
            NaN, for an error that is not known, withholds the shares as well.
    """
    total = phi.sum(-1, keepdims=True)
    above = total > np.asarray(margin)[..., None]
    found: Floats = np.divide(phi, total, out=np.full_like(phi, np.nan), where=above)
    return found


def _margin(played: Played) -> float:
    """Half of an interval of the size of the players' errors together: what a sum must exceed to be shared out.

    The sum itself is v(all) - v(none) and has no error, but a share of it is as uncertain as its part.
    """
    error, freedom = played.estimate.error, played.estimate.freedom
    if np.isnan(freedom).all():  # an estimator that has no error: nothing can be said against its shares
        return 0.0
    return float(np.linalg.norm(half_width(error, freedom)))


def _importance(name: str, game: WordGame, attrs: dict[str, Any]) -> xr.Dataset:
    phi = np.stack([played.estimate.phi for played in game.played])  # (image, player)
    error = np.stack([played.estimate.error for played in game.played])
    freedom = np.stack([played.estimate.freedom for played in game.played])
    margin = np.array([_margin(played) for played in game.played])
    data = {"phi": phi, "share": shares(phi, margin), "error": error, "freedom": freedom}
    ends = {
        "empty": [played.estimate.empty for played in game.played],
        "full": [played.estimate.full for played in game.played],
        "r2": [played.estimate.r2 for played in game.played],
    }
    axioms = [asdict(check_axioms(played)) for played in game.played]
    ends |= {f"{axiom}_gap": [found[axiom] for found in axioms] for axiom in axioms[0]}
    plan = game.played[0].plan
    about = {"estimator": plan.estimator, "coalitions": len(plan.coalitions), "value": _value_in_words(game)}
    return single(
        xr.Dataset(
            {key: (("image", "player"), values, IMPORTANCE[key].attrs) for key, values in data.items()}
            | {key: ("image", np.array(values, np.float64)) for key, values in ends.items()},
            coords=_player_coords(game),
            attrs={"method": name} | about | attrs,
        )
    )


def _coalitions(name: str, game: WordGame) -> xr.Dataset:
    rows = game.played[0].plan.coalitions
    keys = [row.tobytes() for row in rows]
    thumbnails = np.stack([[_thumbnail(value.images[key]) for key in keys] for value in game.values])
    return single(
        xr.Dataset(
            {
                "members": (("coalition", "player"), rows),
                "text": ("coalition", [game.values[0].texts[key] for key in keys]),
                "value": (("image", "coalition"), np.stack([played.values for played in game.played])),
                "thumbnail": (("image", "coalition", "y", "x", "channel"), thumbnails),
            },
            coords=_player_coords(game) | {"channel": ("channel", ["R", "G", "B"])},
            attrs={"method": name},
        )
    )


def _interactions(name: str, game: WordGame, found: Floats) -> xr.Dataset:
    names = [player.name for player in game.players]
    return single(
        xr.Dataset(
            {"index": (("image", "player", "other"), found)},
            coords={"player": ("player", names), "other": ("other", names)},
            attrs={"method": name, "unit": "Shapley interaction index, in units of the value"},
        )
    )


def _over_seeds(name: str, game: WordGame) -> xr.Dataset:
    """The mean over seeds with its bootstrap interval, player by player."""
    phi = np.stack([played.estimate.phi for played in game.played])
    rows = [bootstrap(phi[:, player]) for player in range(phi.shape[1])]
    data = {key: ("player", np.array([getattr(row, key) for row in rows])) for key in ("mean", "low", "high")}
    return xr.Dataset(data, coords=_player_coords(game), attrs={"method": name, "seeds": len(phi)})


def _player_coords(game: WordGame) -> dict[str, Any]:
    return {
        "player": ("player", [player.name for player in game.players]),
        "first_word": ("player", [player.words[0] for player in game.players]),
    }


def _value_in_words(game: WordGame) -> str:
    measure = game.values[0].similarity
    return f"{measure.name} similarity{f' ({measure.source})' if measure.source else ''} to the image of all words"


def _thumbnail(one: Generation) -> Any:
    picture = Image.fromarray(one.pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return np.asarray(picture)
