%% JSON as the exporter stores it, keys sorted and no white space, written a second time and independently:
%% what is checked must not be what it is checked with.
-module(demo_json).

-export([encode/1]).

-spec encode(term()) -> binary().
encode(Term) ->
    iolist_to_binary(value(Term)).

value(Map) when is_map(Map) ->
    Pairs = lists:sort([{key(Key), Value} || {Key, Value} <- maps:to_list(Map)]),
    [${, lists:join($,, [[string(Key), $:, value(Value)] || {Key, Value} <- Pairs]), $}];
value(List) when is_list(List) -> [$[, lists:join($,, [value(Value) || Value <- List]), $]];
value(Boolean) when is_boolean(Boolean) -> atom_to_binary(Boolean);
value(Integer) when is_integer(Integer) -> integer_to_binary(Integer);
value(Text) when is_binary(Text) -> string(Text).

key(Key) when is_atom(Key) -> atom_to_binary(Key);
key(Key) when is_binary(Key) -> Key.

string(Text) ->
    [$", [character(Byte) || <<Byte>> <= Text], $"].

character($") -> "\\\"";
character($\\) -> "\\\\";
character($\n) -> "\\n";
character($\r) -> "\\r";
character($\t) -> "\\t";
character($\b) -> "\\b";
character($\f) -> "\\f";
character(Byte) when Byte < 16#20 -> io_lib:format("\\u~4.16.0b", [Byte]);
character(Byte) -> Byte.
