"""
A CLIP of transformers with its processor
=========================================

A processor of transformers stands in the place of the tokenizer, and says how pictures become inputs. The model here
is the embedded CLIP, its weights moved into the classes of transformers, so that both libraries can be held against
each other.
"""

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

from captum_gradeclip import explain, scenes

# %%
# With real weights, this is all there is to do:

# model = CLIPModel.from_pretrained("openai/clip-vit-base-patch16").eval()
# processor = CLIPProcessor.from_pretrained("openai/clip-vit-base-patch16")
# explain(model, "photo.jpg", ["a dog", "a cat"], processor).plot()

# %%
# Without a network, the model is made of the embedded one: the same tower in the classes of transformers, with the same
# weights under other names.
embedded, _, tokenizer = scenes.load()
text = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 8, "num_attention_heads": 2, "hidden_act": "gelu"}
text_only = {"vocab_size": tokenizer.vocab_size, "max_position_embeddings": 24, "bos_token_id": 647, "eos_token_id": 648}
vision = {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_act": "gelu",
}
vision |= {"image_size": 96, "patch_size": 8}
model = CLIPModel(CLIPConfig(text_config=text | text_only, vision_config=vision, projection_dim=128)).eval()

OUTER = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.": "text_model.final_layer_norm.",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.": "vision_model.pre_layrnorm.",
    "visual.ln_post.": "vision_model.post_layernorm.",
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "transformer.resblocks.": "text_model.encoder.layers.",
}
INNER = {".ln_": ".layer_norm", ".attn.": ".self_attn.", ".mlp.c_fc.": ".mlp.fc1.", ".mlp.c_proj.": ".mlp.fc2."}


def renamed(name: str) -> str:
    for ours, theirs in OUTER.items():
        if name.startswith(ours):
            name = theirs + name.removeprefix(ours)
            break
    for ours, theirs in INNER.items():
        name = name.replace(ours, theirs)
    return name


state = {"logit_scale": embedded.logit_scale.data}
state["visual_projection.weight"] = embedded.visual.proj.data.T.contiguous()
state["text_projection.weight"] = embedded.text_projection.data.T.contiguous()
for name, value in embedded.state_dict().items():
    if "in_proj" in name:  # open_clip has one matrix for queries, keys and values
        for part, third in zip("qkv", value.chunk(3)):
            state[renamed(name).replace("in_proj_", f"{part}_proj.")] = third.clone()
    elif name not in ("logit_scale", "visual.proj", "text_projection"):
        state[renamed(name)] = value
model.load_state_dict(state)

# %%
# The processor: how pictures become inputs, and how texts become tokens.
merges = [pair for pair, _ in sorted(tokenizer.bpe_ranks.items(), key=lambda one: one[1])]
start, end = (tokenizer.decoder[number] for number in tokenizer.all_special_ids)
inner = Tokenizer(models.BPE(tokenizer.encoder, merges, end_of_word_suffix="</w>", unk_token=end))
inner.normalizer = normalizers.Lowercase()
inner.pre_tokenizer, inner.decoder = pre_tokenizers.Whitespace(), decoders.BPEDecoder(suffix="</w>")
marks = [(start, tokenizer.encoder[start]), (end, tokenizer.encoder[end])]
inner.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=marks)
fast = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=start, eos_token=end, unk_token=end, pad_token=end)
half = [0.5, 0.5, 0.5]
pictures = CLIPImageProcessor(size={"shortest_edge": 96}, crop_size=96, image_mean=half, image_std=half)
processor = CLIPProcessor(pictures, fast)

# %%
# One call, with the processor in the place of the tokenizer.
item = scenes.SceneDataset(10, "evaluation", size=320, counts=(3,))[2]
texts = [scenes.with_article(scenes.name(thing).text) for thing in item.scene.things]
found = explain(model, item.image, texts, processor)
found.plot()

# %%
# The same weights in the classes of open_clip give the same maps.
other = explain(embedded, item.image, texts, tokenizer)
print(
    f"largest difference of the maps: {float((found.maps - other.maps).abs().max()):.1e}, of {float(other.maps.max()):.1e}"
)
