"""Two cards that a machine without any pretends to have: every tensor is on the CPU and says where it would be.

Inside `Cards()` a tensor that was brought to "cpu:0" or "cpu:1" keeps that name in all that is computed from it, and
operations on tensors of different places fail as they do on GPUs, also with tensors of the host ("cpu"). The numbers
are those of the CPU, so what runs on two cards can be compared bit by bit with what runs on one.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.Tensor.device.__get__
# May read a tensor of another place: copies, and indices that are on the host.
ACROSS = {"copy_", "to", "__deepcopy__", "__setitem__", "__getitem__", "index_put_", "set_data"}


def place(tensor: torch.Tensor) -> int | None:
    """The card that a tensor is on; None: on the host."""
    return getattr(tensor, "_card", None)


def bring(module: torch.nn.Module, device: str) -> None:
    """Say of all weights and buffers of a module that they are on this device."""
    for tensor in (*module.parameters(), *module.buffers()):
        tensor._card = torch.device(device).index


class Cards(TorchFunctionMode):
    """The two cards; `moved` counts tensors that went from one to the other."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0

    def __enter__(self):
        plain = torch._C.TensorBase._make_subclass  # a parameter is where the tensor is that it is made of

        def made_of(kind, data, *rest, **named):
            out = plain(kind, data, *rest, **named)
            out._card = place(data)
            return out

        torch.Tensor._make_subclass = staticmethod(made_of)
        return super().__enter__()

    def __exit__(self, *raised):
        del torch.Tensor._make_subclass
        return super().__exit__(*raised)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if func is torch.device:
            return func(*args, **kwargs)
        if func == DEVICE:
            card = place(args[0])
            return torch.device("cpu") if card is None else torch.device("cpu", card)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if name == "numpy" and place(given[0]) is not None:
            raise TypeError("can't convert a tensor of a card to numpy. Use Tensor.cpu() first.")
        where = {place(t) for t in given if t.dim() or place(t) is not None}
        target = next(iter(where)) if len(where) == 1 else place(given[0]) if given else None
        if name == "cpu":
            target = None
        elif name == "to" and len(given) > 1:
            target = place(given[1])
        else:
            named = [x for x in (*args, kwargs.get("device")) if isinstance(x, torch.device)]
            named += [x for x in (*args, kwargs.get("device")) if isinstance(x, str) and x.startswith("cpu")]
            if named:
                target = torch.device(named[0]).index
        if len(where) > 1 and name not in ACROSS:
            raise RuntimeError(f"Expected all tensors to be on the same device, but {name} found {where}.")
        plain = torch.device("cpu")

        def hosted(x):
            return plain if isinstance(x, torch.device) or (isinstance(x, str) and x.startswith("cpu:")) else x

        made = func(*tree_map(hosted, args), **{k: tree_map(hosted, v) for k, v in kwargs.items()})
        if name in ("to", "cpu") and place(given[0]) != target:
            self.moved += None not in (place(given[0]), target)
            made = made.view_as(made) if made is given[0] else made  # on another card it is another tensor
        for out in tree_leaves(made):
            if isinstance(out, torch.Tensor) and not any(out is t for t in given):
                out._card = target
        return made
