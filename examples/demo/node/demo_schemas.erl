%% 500 generated tools, the same ones in every run, whose schemas have the sizes of real ones: of 590 tools of 13
%% public servers the smallest schema has 33 bytes, the median is 300, the 90th percentile 1410, the 99th
%% 3122, the largest has 5439, and 8 % hold text that is not ASCII.
-module(demo_schemas).

-export([tools/0]).

-define(COUNT, 500).
%% Rank among the 500 by size, and bytes; in between, the logarithm of the size grows evenly.
-define(SIZES, [{1, 33}, {250, 300}, {450, 1410}, {495, 3122}, {500, 5439}]).

-spec tools() -> [{tool, Name :: binary(), Schema :: map(), Metadata :: map()}].
tools() ->
    %% 263 and 500 have no common factor: every rank once, large and small ones mixed.
    [tool(N, N * 263 rem ?COUNT + 1) || N <- lists:seq(1, ?COUNT)].

tool(N, Rank) ->
    Verb = nth(N, [<<"get">>, <<"list">>, <<"search">>, <<"create">>, <<"update">>, <<"delete">>, <<"merge">>]),
    Noun = nth(N div 7, [<<"commit">>, <<"file">>, <<"branch">>, <<"message">>, <<"page">>, <<"query">>]),
    Name = iolist_to_binary(io_lib:format("~s_~s_~3..0b", [Verb, Noun, N])),
    Title = <<(string:titlecase(Verb))/binary, " ", Noun/binary>>,
    {tool, Name, schema(Rank), #{title => Title, annotations => #{'readOnlyHint' => Rank rem 3 > 0}}}.

bytes(Rank) -> bytes(Rank, ?SIZES).

bytes(Rank, [{R0, S0}, {R1, S1} | _]) when Rank =< R1 ->
    round(math:exp(math:log(S0) + (math:log(S1) - math:log(S0)) * (Rank - R0) / (R1 - R0)));
bytes(Rank, [_ | Sizes]) ->
    bytes(Rank, Sizes).

%% Properties as long as they fit, and then a description that fills up what is left to the byte.
schema(Rank) ->
    Empty = with_properties(Rank, 0),
    case bytes(Rank) - described_size(Empty) of
        Left when Left < 0 -> Empty;
        _ -> fill(Rank, bytes(Rank), Empty, 1)
    end.

fill(Rank, Size, Schema, Properties) ->
    Larger = with_properties(Rank, Properties),
    case Size - described_size(Larger) of
        Left when Left >= 20 -> fill(Rank, Size, Larger, Properties + 1);
        _ -> Schema#{description => text(Rank, Size - described_size(Schema))}
    end.

described_size(Schema) -> byte_size(demo_json:encode(Schema#{description => <<>>})).

with_properties(_Rank, 0) ->
    #{type => <<"object">>, properties => #{}};
with_properties(Rank, Count) ->
    Properties = [{property_name(Rank, I), property(Rank, I)} || I <- lists:seq(1, Count)],
    #{
        type => <<"object">>,
        properties => maps:from_list(Properties),
        required => [Name || {Name, _} <- lists:sublist(Properties, 1 + Count div 3)]
    }.

property_name(Rank, I) ->
    Words = [<<"query">>, <<"limit">>, <<"cursor">>, <<"path">>, <<"owner">>, <<"repo">>, <<"title">>, <<"body">>,
        <<"labels">>, <<"state">>, <<"since">>, <<"branch">>, <<"format">>, <<"recursive">>],
    Word = nth(Rank + I, Words),
    case (I - 1) div length(Words) of
        0 -> Word;
        Round -> <<Word/binary, "_", (integer_to_binary(Round))/binary>>
    end.

property(Rank, I) ->
    Description = text(I, 20 + 7 * ((Rank + 3 * I) rem 9)),
    case (Rank + I) rem 6 of
        0 -> #{type => <<"integer">>, minimum => 1, maximum => 100, default => 30, description => Description};
        1 -> #{type => <<"boolean">>, default => false, description => Description};
        2 -> #{type => <<"string">>, enum => [<<"open">>, <<"closed">>, <<"all">>]};
        3 -> #{type => <<"array">>, items => #{type => <<"string">>}, description => Description};
        _ -> #{type => <<"string">>, description => Description}
    end.

%%% Text of so many bytes; 40 of the 500 tools, 8 %, speak languages that need more than ASCII

text(Rank, Size) when Rank rem 11 =:= 0, Rank > 60 ->
    cut(<<"Größte zuerst, aus allen Einträgen. 検索結果を返します。 Répond en français, s’il le faut. "/utf8>>, Size);
text(_, Size) ->
    cut(<<"Returns what matches, newest first; give a cursor to go on where the last answer ended. ">>, Size).

%% Whole characters only, and dots for what is left.
cut(Sentence, Size) ->
    Long = binary:copy(Sentence, Size div byte_size(Sentence) + 1),
    Whole = whole(Long, Size),
    <<Whole/binary, (binary:copy(<<".">>, Size - byte_size(Whole)))/binary>>.

whole(Text, Size) ->
    case unicode:characters_to_list(binary:part(Text, 0, Size)) of
        {incomplete, Chars, _} -> unicode:characters_to_binary(Chars);
        Chars -> unicode:characters_to_binary(Chars)
    end.

nth(N, List) -> lists:nth(N rem length(List) + 1, List).
